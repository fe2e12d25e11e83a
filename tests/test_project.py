"""The files around the package agree: dependencies, Makefile, licence; none shows a machine."""

import importlib.metadata
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from sparcl_lite.report.tables import PUBLICATIONS

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]
ENVIRONMENT = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))

NAMED_IN_ENVIRONMENT = {
    "jupyterlab",
    "torch",
    "torchvision",
    "matplotlib",
    "seaborn",
    "papermill",
    "pytest",
    "nbval",
}

# An absolute path below a home or work directory; `~/work/` and `notebooks/work/` are none.
MACHINE_PATH = re.compile(r"(?<![\w.~-])/(?:home|root|work|Users)/|\b[A-Z]:\\+Users\b")
PRIVATE_HOST = re.compile(
    r"\w://(?:[^/\s@]*@)?(?:"
    r"10\.\d+\.\d+\.\d+|192\.168\.\d+\.\d+|172\.(?:1[6-9]|2\d|3[01])\.\d+\.\d+"
    r"|[\w.-]+\.(?:internal|intranet|corp|lan|local)\b)"
)


def requirements(lines):
    """Requirement lines by name, without references of the project to its own extras."""
    parsed = [Requirement(line) for line in lines]
    return {r.name.lower(): r for r in parsed if r.name != PROJECT["name"]}


def pyproject_requirements():
    extras = PROJECT["optional-dependencies"].values()
    return requirements([*PROJECT["dependencies"], *(line for extra in extras for line in extra)])


def conda_lines():
    return [line for line in ENVIRONMENT["dependencies"] if isinstance(line, str)]


def pip_lines():
    (section,) = [part for part in ENVIRONMENT["dependencies"] if isinstance(part, dict)]
    return section["pip"]


def make(*arguments):
    """Run make at the project's root, free of the settings of a make that runs these tests."""
    settings = {"MAKEFLAGS", "MFLAGS", "MAKELEVEL", "PYTHON", "PROFILE", "SEEDS"}
    settings |= {"SCHEDULER", "NOTEBOOKS"}
    environment = {name: value for name, value in os.environ.items() if name not in settings}
    return subprocess.run(
        ["make", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")


def test_environment_names_the_packages_people_look_for():
    named = requirements(line for line in pip_lines() if not line.startswith("-"))
    assert set(named) == NAMED_IN_ENVIRONMENT


@pytest.mark.parametrize("name", sorted(NAMED_IN_ENVIRONMENT))
def test_environment_and_pyproject_ask_for_the_same_versions(name):
    named = requirements(line for line in pip_lines() if not line.startswith("-"))
    assert named[name].specifier == pyproject_requirements()[name].specifier


def test_environment_installs_the_project_with_all_extras():
    assert [line for line in pip_lines() if line.startswith("-")] == ["-e .[all]"]
    assert ENVIRONMENT["channels"][0] == "conda-forge"
    assert "pip" in conda_lines()


def test_environment_python_is_the_range_pyproject_supports():
    (python,) = [Requirement(line) for line in conda_lines() if line.startswith("python ")]
    supported = SpecifierSet(PROJECT["requires-python"])
    assert set(supported) <= set(python.specifier)
    minors = [f"3.{minor}" for minor in range(30) if python.specifier.contains(f"3.{minor}")]
    prefix = "Programming Language :: Python :: 3."
    classifiers = [c for c in PROJECT["classifiers"] if c.startswith(prefix)]
    assert classifiers == [f"Programming Language :: Python :: {minor}" for minor in minors]


def test_all_is_notebooks_test_and_kernels():
    (line,) = PROJECT["optional-dependencies"]["all"]
    everything = Requirement(line)
    assert everything.name == PROJECT["name"]
    assert everything.extras == {"notebooks", "test", "kernels"}


@pytest.mark.parametrize("name", sorted(pyproject_requirements()))
def test_installed_version_is_in_the_declared_range(name):
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        extras = PROJECT["optional-dependencies"]
        left_out = requirements([*extras["cells"], *extras["cluster"], *extras["rivals"]])
        assert name in left_out, f"{name} is declared but not installed"
        pytest.skip(f"{name} is only for AnnData, for clusters, or for a benchmark")
    specifier = pyproject_requirements()[name].specifier
    assert specifier.contains(version, prereleases=True)


def locked(name):
    """The versions that a lock file pins, by package; CUDA's libraries are none of the CPU's."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return dict(line.removesuffix("+cpu").split("==") for line in lines if "==" in line)


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-cpu.lock"])
def test_a_lock_file_pins_what_pyproject_asks_for(name):
    extras = PROJECT["optional-dependencies"]
    left_out = requirements([*extras["cells"], *extras["cluster"], *extras["rivals"]])
    asked, pinned = pyproject_requirements(), locked(name)
    assert {package for package in asked if package not in left_out} <= set(pinned)
    assert all(requirement.specifier.contains(pinned[p]) for p, requirement in asked.items() if p in pinned)


def test_the_lock_file_without_cuda_differs_in_nothing_else():
    whole, cpu = locked("requirements.lock"), locked("requirements-cpu.lock")
    assert cpu.items() <= whole.items()
    assert all(re.match(r"nvidia-|cuda-|triton$", name) for name in whole.keys() - cpu.keys())
    assert "requirements-cpu.lock" in (ROOT / "binder" / "Dockerfile").read_text(encoding="utf-8")


def test_torch_and_torchvision_work_together():
    import torch
    import torchvision

    # A compiled operator of torchvision: it is missing when the pair does not fit.
    boxes = torch.tensor([[0.0, 0.0, 2.0, 2.0], [0.0, 0.0, 2.0, 1.9], [5.0, 5.0, 6.0, 6.0]])
    kept = torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), iou_threshold=0.5)
    assert kept.tolist() == [0, 2]


def test_licence_is_mit_everywhere():
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert licence.startswith("MIT License\n")
    assert "WITHOUT WARRANTY OF ANY KIND" in licence
    assert PROJECT["license"] == "MIT"


def test_citation_agrees_with_pyproject():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
    assert citation["authors"] == PROJECT["authors"]
    assert all({"type", "title", "authors", "year"} <= set(reference) for reference in citation["references"])
    named = "".join(reference["title"] + reference.get("notes", "") for reference in citation["references"])
    assert all(paper in named for paper in PUBLICATIONS.values())


@needs_make
@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["reproduce"], "sparcl-lite reproduce --profile lite --seeds 1 --output build"),
        (["test"], "-m pytest"),
        (["test"], "--nbval --nbval-current-env"),
        (["quick"], '-m "not slow and not long"'),
        (["thorough"], '-m ""'),
        (["campaign", "CAMPAIGN=--seed 2"], "-m campaign --write --seed 2"),
        (["lab"], "-m jupyterlab notebooks"),
        (["bench"], "sparcl-lite bench overhead"),
        (["render"], "sparcl-lite render"),
        (["docs"], "sparcl-lite docs"),
        (["lint"], "-m ruff format --check"),
        (
            ["reproduce", "PROFILE=paper", "SEEDS=5", "SCHEDULER=tcp://host:8786"],
            "reproduce --profile paper --seeds 5 --scheduler tcp://host:8786 --output build",
        ),
        (
            ["reproduce", "NOTEBOOKS=one two"],
            "reproduce --profile lite --seeds 1 --output build one two",
        ),
    ],
)
def test_make_target_runs_its_command(arguments, command):
    result = make("--dry-run", *arguments)
    assert result.returncode == 0, result.stderr
    assert command in result.stdout


@needs_make
def test_make_alone_lists_the_targets():
    result = make()
    assert result.returncode == 0, result.stderr
    listed = set(re.findall(r"^  ([a-z]+) ", result.stdout, flags=re.MULTILINE))
    assert {"reproduce", "test", "quick", "lab", "bench", "render"} <= listed


@needs_make
@pytest.mark.parametrize(("version", "said"), [("Python 3.9.18", "is Python 3.9.18"), (None, "is not found")])
def test_make_refuses_a_missing_or_old_python_in_one_line(tmp_path, version, said):
    python = tmp_path / "python"
    if version is not None:
        python.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo "{version}"\nexit 1\n')
        python.chmod(0o755)
    # The stamp's rule in an empty directory: nothing is installed there.
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    result = make(f"--directory={tmp_path}", f"--file={ROOT / 'Makefile'}", "lab", f"PYTHON={python}")
    assert result.returncode != 0
    (line,) = [line for line in result.stderr.splitlines() if not line.startswith("make")]
    assert line.startswith("Python 3.11 or newer is needed")
    assert said in line
    assert not (tmp_path / ".venv").exists()


def traces(text):
    """Absolute paths of a machine and private hosts in `text`."""
    return [match[0] for pattern in (MACHINE_PATH, PRIVATE_HOST) for match in pattern.finditer(text)]


# The samples are put together here, so that this file passes its own check.
@pytest.mark.parametrize(
    "text",
    [
        "see " + "/" + "home/ada/data",
        '"' + "/" + 'root/.cache"',
        "file://" + "/" + "work/main/x",
        "/" + "Users/ada/x",
        "C:" + "\\\\Users\\\\ada",
        "https://" + "pypi.corp.internal/simple",
        "tcp://" + "10.0.0.7:8786",
        "https://user:word@" + "192.168.1.2/",
    ],
)
def test_trace_of_a_machine_is_found(text):
    assert traces(text)


@pytest.mark.parametrize("text", ["~/work/x", "docs/work/x", "https://arxiv.org/abs/1", "tcp://host:8786", "10.0.0.7"])
def test_ordinary_text_is_no_trace(text):
    assert not traces(text)


def tracked_files():
    """Files of the checkout that git tracks; skips the test outside a checkout."""
    if shutil.which("git") is None:
        pytest.skip("git is not installed")
    listing = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    top = subprocess.run(
        ["git", "rev-parse", "--show-toplevel"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode != 0 or Path(top.stdout.strip()).resolve() != ROOT:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listing.stdout.split("\0") if name]


def test_tracked_files_carry_no_trace_of_a_machine():
    found = {}
    for path in tracked_files():
        # A file may be deleted and not yet committed; figures and arrays are no text.
        content = path.read_bytes() if path.is_file() else b"\0"
        if b"\0" not in content and (hits := traces(content.decode("utf-8", errors="replace"))):
            found[str(path.relative_to(ROOT))] = hits
    assert not found
