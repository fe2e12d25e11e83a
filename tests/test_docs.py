"""The pages a reader starts from: links lead somewhere, code is Python, commands exist, and the examples run."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image

from sparcl_lite.cli import app

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
EXTENDING = ROOT / "docs" / "extending.md"


def each_page():
    return pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)


def blocks(page, language):
    """Sources of the code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page):
    """Names that a link may give after `#`: headings, as GitHub spells them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(page):
    """Relative links of a page that lead nowhere."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    found = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if re.match(r"[a-z]+:", link):
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            found.append(link)
    return found


@each_page()
def test_every_relative_link_resolves(page):
    assert broken(page) == []


def test_a_broken_link_is_found(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("# A b, c\n[x](#a-b-c) [x](page.md) [x](https://host/x) [x](lost.md) [x](#lost) [x](page.md#lost)")
    assert broken(page) == ["lost.md", "#lost", "page.md#lost"]


@each_page()
def test_python_blocks_are_python(page):
    for source in blocks(page, "python"):
        ast.parse(source)


def test_readme_is_short_and_shows_in_headings_how_to_bring_what_is_ones_own():
    readme = ROOT / "README.md"
    text = readme.read_text(encoding="utf-8")
    assert len(text.encode()) <= 8192
    assert text.count("\n") <= 140
    assert {"use-your-own-images", "use-your-own-network", "use-your-own-method"} <= anchors(readme)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "docs/index.md"])
def test_commands_exist(name):
    shell = "\n".join(blocks(ROOT / name, "sh"))
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert set(re.findall(r"^make ([a-z]+)", shell, flags=re.MULTILINE)) <= set(targets)
    commands = typer.main.get_command(app).commands
    assert set(re.findall(r"^sparcl-lite ([a-z]+)", shell, flags=re.MULTILINE)) <= set(commands)


def photos(folder):
    """A folder of JPEGs of different sizes, with unequal classes."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 24), ("test", 8)):
        for number, name in enumerate(("cat", "cow", "dog", "owl")):
            place = folder / split / name
            place.mkdir(parents=True)
            for image in range(count + number):
                pixels = rng.integers(256, size=(20 + image, 30, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"{image:03}.jpg")


@pytest.mark.slow
def test_the_examples_of_extending_run_one_after_the_other(tmp_path):
    photos(tmp_path / "photos")
    (tmp_path / "examples.py").write_text("\n".join(blocks(EXTENDING, "python")), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "examples.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
