"""What a user clicks in the other views of `explore`: each answers, and nothing is written to the console."""

import re

from conftest import idle, open_notebook

JUDGING = 200  # seconds at most; the first time all claims are counted at the papers' size


def test_views_answer_to_clicks(page, lab):
    open_notebook(page, lab, "explore")
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    page.locator(".kit-grid").nth(1).wait_for(timeout=1000 * JUDGING)
    idle(page)

    page.get_by_role("tab", name="easiest, hardest").click()
    page.locator('img[alt^="easiest, hardest of sparcl-der++ 0.90"]').wait_for()

    page.get_by_label("rows").fill("sparcl-der++ 0.90")
    page.get_by_label("rows").press("Enter")
    grid = page.locator(".kit-grid").first
    grid.get_by_role("button", name="SparCL-DER++ 0.90, buffer 200", exact=True).wait_for()
    assert re.search("seeds 0, 1", grid.locator("tbody button").nth(2).get_attribute("title"))
    grid.locator("tbody button").nth(2).click()
    page.get_by_text("recalled from the paper").first.wait_for()
    grid.get_by_role("button", name="n", exact=True).click()  # sorts

    page.get_by_label("number of genes").first.wait_for(state="attached")
    page.get_by_role("button", name="number of genes").click()
    page.get_by_text(re.compile(r"^7\d of 765 genes at eta")).wait_for()
    with page.expect_download() as download:
        page.get_by_text("download pbmc_genes.csv").click()
    lines = download.value.path().read_text().splitlines()
    assert lines[0] == "rank,gene,norm,share"
    assert 70 < len(lines) < 85

    page.get_by_label("verdict").select_option("contradicted")
    claims = page.locator(".kit-grid").last
    claims.locator("tbody button").first.click()
    page.locator('img[alt^="evidence of: "]').wait_for()
    assert page.errors == []
