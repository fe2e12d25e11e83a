"""What a user clicks in the other views of `explore`: each answers, and nothing is written to the console."""

import re

import pytest

from .conftest import open_notebook, run_cells

UP_TO_GENES = 11  # cells of `explore`, the first one included
JUDGING = 400  # seconds at most; the first time all claims are counted at the papers' size


def test_views_answer_to_clicks(page, lab):
    open_notebook(page, lab, "explore")
    run_cells(page, UP_TO_GENES)
    page.get_by_text("download pbmc_genes.csv").wait_for()

    page.get_by_role("tab", name="easiest, hardest").click()
    page.locator('img[alt^="easiest, hardest of sparcl-der++ 0.90"]').wait_for()

    page.get_by_role("textbox", name="rows", exact=True).fill("sparcl-der++ 0.90")
    page.get_by_role("textbox", name="rows", exact=True).press("Enter")
    grid = page.locator(".kit-grid").first
    grid.get_by_role("button", name="SparCL-DER++ 0.90, buffer 200", exact=True).wait_for()
    assert re.search("seeds 0, 1", grid.locator("tbody button").nth(2).get_attribute("title"))
    grid.locator("tbody button").nth(2).click()
    page.get_by_text("recalled from the paper").first.wait_for()
    grid.get_by_role("button", name="n", exact=True).click()  # sorts

    page.get_by_role("button", name="number of genes").click()
    page.get_by_text(re.compile(r"^7\d of 765 genes at eta")).wait_for()
    with page.expect_download() as download:
        page.get_by_text("download pbmc_genes.csv").click()
    lines = download.value.path().read_text().splitlines()
    assert lines[0] == "rank,gene,norm,share"
    assert 70 < len(lines) < 85

    assert page.errors == []


@pytest.mark.long
@pytest.mark.timeout(600)
def test_a_claim_is_chosen(page, lab):
    open_notebook(page, lab, "explore")
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    claims = page.locator(".kit-grid").nth(1)
    claims.wait_for(timeout=1000 * JUDGING)
    page.get_by_role("combobox", name="verdict", exact=True).select_option("contradicted")
    claims.locator("tbody button").first.click()
    page.locator('img[alt^="evidence of: "]').wait_for()
    assert page.errors == []
