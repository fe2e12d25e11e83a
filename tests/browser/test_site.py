"""The report is whole: links, landmarks, alternative texts, ids, contrast, and no scrolling sideways at 400 pixels."""

import re
from itertools import pairwise
from urllib.parse import unquote

import nbformat
import pandas as pd
import pytest
from bs4 import BeautifulSoup

from sparcl_lite.measure.statistics import INCONCLUSIVE, REPRODUCED
from sparcl_lite.notebook import notebooks_folder
from sparcl_lite.papers.claims import claims
from sparcl_lite.papers.judge import judge
from sparcl_lite.papers.sparcl.tables import table3
from sparcl_lite.report import agreement, board, site
from sparcl_lite.report.execution import with_parameters
from sparcl_lite.report.tables import Table
from sparcl_lite.runs.training import Training

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PAGES = ("index", "scoreboard", "machine", "notebooks/index", "notebooks/sparcl_table3", "docs/results", "docs/metrics")


def verdicts(value):
    """Of SparCL's claims, on made-up runs of the ablation in which every part adds `value` points, about."""
    experiment = table3(profile="smoke")
    runs = pd.DataFrame(
        dict.fromkeys(Training.columns, 1.0)
        | {"row": row.id, "seed": seed, "class_il": 60 + seed + value * number + 0.1 * seed * number}
        for number, row in enumerate(experiment.rows)
        for seed in range(4)
    )
    return judge(claims("sparcl"), {"sparcl_table3": experiment}, {"sparcl_table3": runs})


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The whole site, with one notebook and one differing cell of this machine."""
    output = tmp_path_factory.mktemp("output")
    notebook = nbformat.read(notebooks_folder() / "sparcl_table3.ipynb", as_version=4)
    (cell,) = (cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", []))
    cell.source = with_parameters(cell.source, {"seeds": 1, "evidence": ""})
    (output / "notebooks").mkdir()
    nbformat.write(notebook, output / "notebooks" / "sparcl_table3.ipynb")
    values = {"Class-IL": {"here": 1.0, "committed": 2.0, "low": 1.5, "high": 2.5}}
    cells = [agreement.Cell("sparcl_table3/tdm", 0, "k" * 20, 10, agreement.OUTSIDE, values)]
    with pytest.MonkeyPatch.context() as patch:
        committed = {"desk": verdicts(8), "lite": verdicts(0)[:1] + verdicts(-8)[1:]}
        patch.setattr(site, "committed", lambda _: committed)
        index = site.build(output, site.Here("Profile smoke & <one> seed.", verdicts(8), cells))
    return index.parent


def pages(report):
    """Every page but those that Sphinx and its theme make for themselves, by path."""
    paths = [path for path in report.rglob("*.html") if "_static" not in path.parts]
    chosen = [path for path in paths if path.name not in ("search.html", "genindex.html")]
    return {str(p.relative_to(report)): BeautifulSoup(p.read_text(encoding="utf-8"), "html.parser") for p in chosen}


def test_every_link_and_picture_is_a_file_of_the_folder(report):
    broken = []
    for name, page in pages(report).items():
        for tag, attribute in (("a", "href"), ("img", "src"), ("script", "src"), ("link", "href")):
            for found in page.find_all(tag, **{attribute: True}):
                link = found[attribute].partition("#")[0]
                if re.match(r"(https?:|mailto:|data:|javascript:)", link):
                    assert tag == "a", f"{name} needs the network: {link}"
                    continue
                target = (report / name).parent / unquote(link.partition("?")[0]) if link else report / name
                if not target.is_file():
                    broken.append((name, link))
    assert broken == []


def test_pages_have_landmarks_one_title_unique_ids_and_alternative_texts(report):
    for name, page in pages(report).items():
        assert page.html["lang"] == "en", name
        assert all(page.find(landmark) for landmark in ("main", "header", "nav")), name
        assert len(page.find_all("h1")) == 1, name
        ids = [tag["id"] for tag in page.find_all(id=True)]
        assert {i for i in ids if ids.count(i) > 1} == set(), name
        assert [img for img in page.find_all("img") if not img.get("alt")] == [], name
        assert [svg for svg in page.select("main svg[role=img]") if not svg.get("aria-label")] == [], name
        levels = [int(tag.name[1]) for tag in page.select("main :is(h1, h2, h3, h4)")]
        assert all(b <= a + 1 for a, b in pairwise(levels)), (name, levels)


def test_a_page_shows_the_parameters_that_ran_and_offers_the_notebook(report):
    page = pages(report)["notebooks/sparcl_table3.html"]
    text = page.get_text()
    assert "As run on this machine." in text
    assert re.search(r"^seeds = 1  # at most", text, re.MULTILINE)
    assert 'evidence = ""  # committed' in text.replace("''", '""')
    (download,) = [a for a in page.find_all("a") if "Download the notebook" in a.get_text()]
    assert (report / "notebooks" / download["href"]).resolve().is_file()
    assert "As committed" in pages(report)["notebooks/quickstart.html"].get_text()


def test_the_front_page_counts_verdicts_and_what_ran_here(report):
    card = pages(report)["index.html"].find(id="card-sparcl").parent
    said = " ".join(card.get_text(" ").split())
    for data in ("CIFAR-10 (desk)", "lite"):
        assert re.search(rf"{re.escape(data)}: \d+ reproduced, \d+ contradicted, \d+ inconclusive", said)
    (figure,) = card.find_all("img")
    assert "sparcl_table1_desk" in figure["src"]
    assert "On this machine:" in said
    machine = pages(report)["machine.html"].get_text()
    assert "Profile smoke & <one> seed." in machine
    assert "1 outside: sparcl_table3/tdm seed 0" in machine


def test_the_scoreboard_draws_intervals_and_sets_this_machine_beside(report):
    page = pages(report)["scoreboard.html"]
    other = page.find(id="sparcl-tdm-accuracy-desk")
    assert (other["data-runs"], other["data-verdict"]) == ("desk", REPRODUCED)
    assert other.find("td", attrs={"data-label": "On this machine"}).get_text() == "-"
    row = page.find(id="sparcl-tdm-accuracy-lite")
    assert (row["data-paper"], row["data-runs"], row["data-verdict"]) == ("sparcl", "lite", INCONCLUSIVE)
    assert len(row.select("line.interval, line.bound, path.paper")) == 3
    assert row.find("td", attrs={"data-label": "On this machine"}).get_text() == REPRODUCED
    assert row.find("a")["href"] == "notebooks/sparcl_table3.html"


def test_a_drawing_places_interval_bound_and_paper_on_one_axis():
    (entry,) = (e for e in verdicts(8) if e.claim.id == "tdm-accuracy")
    line = board.line(entry, [], {}, "lite")
    (evidence,), (drawn,) = entry.evidence, line["lines"]
    order = sorted([(evidence.effect.low, "low"), (evidence.effect.mean, "mean"), (evidence.effect.high, "high"),
                    (evidence.paper, "paper")])  # fmt: skip
    assert [name for _, name in order] == sorted(("low", "mean", "high", "paper"), key=lambda name: drawn[name])
    assert all(0 <= drawn[name] <= board.WIDTH for name in ("low", "mean", "high", "paper"))
    assert line["notebook"] == ""


def test_tables_of_one_page_have_ids_of_their_own():
    tables = [Table(pd.DataFrame({"verdict": [value]})) for value in ("yes", "no")]
    found = [re.search(r'<table id="(\w+)"', table._repr_html_())[1] for table in tables]
    assert len({*found}) == 2
    assert found[0] == re.search(r'<table id="(\w+)"', tables[0]._repr_html_())[1]


# -- contrast


def luminance(colour):
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    """As WCAG 2 has it: 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_wcag_aa(report):
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    css = (report / "_static" / "kit.css").read_text(encoding="utf-8")
    theme = next((report / "_static").rglob("pydata-sphinx-theme.css")).read_text(encoding="utf-8")
    backgrounds = {"light": "#ffffff", "dark": re.search(r"--pst-color-background: ?(#1\w{5})", theme)[1]}
    for verdict in re.findall(r"--kit-[\w-]+: (#\w{6})", css):
        assert contrast("#1b1b1b", verdict) >= 4.5
    light, dark = (
        dict(re.findall(r"--(\w+): (#\w{3,6})", line))
        for line in css.splitlines()
        if "--good" in line and "{ --" in line
    )
    for shade, drawn in (("light", light), ("dark", dark)):
        for colour in drawn.values():
            whole = colour if len(colour) == 7 else "#" + "".join(2 * digit for digit in colour[1:])
            assert contrast(whole, backgrounds[shade]) >= 3, (shade, colour)  # of graphics


# -- in a browser


def follow(page, name):
    """Click the first link of that name, and wait for the page behind it: counting the rows of a page does not."""
    with page.expect_navigation():
        page.get_by_role("link", name=name).first.click()


@pytest.mark.parametrize("name", PAGES)
def test_nothing_scrolls_sideways_at_400_pixels(report, page, name):
    page.set_viewport_size({"width": 400, "height": 900})
    page.goto((report / f"{name}.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert page.errors == []


def test_claims_are_filtered_and_sorted_and_lead_to_their_notebook(report, page):
    page.goto((report / "index.html").as_uri())
    follow(page, "All claims of SparCL")
    rows = page.locator("#scoreboard tbody tr:visible")
    of_paper = rows.count()
    verdict, *others = sorted(set(rows.locator(".verdict").all_text_contents()))
    assert others
    page.get_by_label("Verdict").select_option(verdict)
    assert set(rows.locator(".verdict").all_text_contents()) == {verdict}
    assert page.get_by_role("status").text_content().startswith(f"{rows.count()} of ")
    page.get_by_label("Verdict").select_option("")
    page.get_by_label("Runs").select_option("desk")
    assert set(rows.locator("td:nth-child(2)").all_text_contents()) == {"CIFAR-10 (desk)"}
    assert rows.count() == of_paper / 2
    page.get_by_label("Runs").select_option("")
    page.get_by_label("Words").fill("FLOPs on top")
    assert 0 < rows.count() < of_paper
    assert all("FLOPs on top" in text for text in rows.locator("strong").all_text_contents())
    page.get_by_label("Words").fill("no such claim")
    assert rows.count() == 0
    page.get_by_label("Words").fill("")

    page.get_by_role("button", name="Verdict").click()
    upwards = rows.locator(".verdict").all_text_contents()
    assert len(set(upwards)) > 1
    assert upwards == sorted(upwards)
    page.get_by_role("button", name="Verdict").click()
    assert rows.locator(".verdict").all_text_contents() == sorted(upwards, reverse=True)

    follow(page, "notebook sparcl_table3")
    assert page.locator("h1").text_content().startswith("SparCL, Table 3")
    follow(page, "Scoreboard of claims")
    assert page.locator("h1").text_content().startswith("Scoreboard of claims")
    assert page.errors == []


def test_colours_of_verdicts_are_printed_and_no_card_breaks_over_two_pages(report, page):
    page.emulate_media(media="print")
    page.goto((report / "index.html").as_uri())
    style = "element => getComputedStyle(element)"
    assert page.locator(".bar span").first.evaluate(f"{style}.printColorAdjust") == "exact"
    assert page.locator(".card").first.evaluate(f"{style}.breakInside") == "avoid"
    assert page.locator(".cards").evaluate(f"{style}.display") == "block"  # in a grid cards break nevertheless
