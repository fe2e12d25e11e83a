"""What a user clicks in JupyterLab: a run is trained, stopped, continued and compared; a parameter is changed."""

import re
import time

from sparcl_lite.config import RunConfig
from sparcl_lite.runs.store import Store
from sparcl_lite.sparsity import SparCL

from .conftest import SECONDS, idle, open_notebook, run_cells

UP_TO_TRAIN = 5  # cells of `explore`, the first one included


def alternative_text(page, beginning):
    return page.locator(f'img[alt^="{beginning}"]').first


def test_explore_trains_stops_goes_on_and_compares(page, lab):
    open_notebook(page, lab, "explore")
    run_cells(page, UP_TO_TRAIN)
    train, stop = page.get_by_role("button", name="Train"), page.get_by_role("button", name="Stop")
    page.get_by_label("profile").select_option("smoke")
    page.get_by_text("new: Train starts it").wait_for()

    train.click()
    page.get_by_text(re.compile(r"step [1-9]\d* of \d+; about .* left")).wait_for()
    stop.click()
    page.get_by_text(re.compile(r"stopped after step \d+ of \d+")).wait_for()
    assert list((lab.home / "store" / "checkpoints").iterdir())
    stopped = int(re.search(r"after step (\d+)", page.get_by_text("stopped after step").inner_text())[1])
    assert stopped > 0

    train.click()
    page.get_by_text(re.compile("done in")).wait_for()
    (result,) = Store(lab.home / "store").results("training")
    curve = 'img[alt^="Class-IL accuracy of sparcl-der++ 0.90, buffer 200, digits"]'
    page.locator(f'{curve}[alt*="task 5: {result.accuracy_matrix[-1][-1]:.0f} %"]').wait_for()

    page.get_by_label("strategy").select_option("dense")
    page.get_by_text("new: Train starts it").wait_for()
    train.click()
    alternative_text(page, "Class-IL accuracy and training FLOPs of 4 runs").wait_for()
    for name in ("fashion-mnist, seed 0", "sparcl-der++ 0.90, buffer 200, fashion-mnist, seed 0"):
        page.get_by_label(re.compile(f"^(der.., buffer 200, )?{re.escape(name)}$")).uncheck()
    compared = alternative_text(page, "Class-IL accuracy and training FLOPs of 2 runs").get_attribute("alt")
    assert compared.count("digits") == 2

    page.get_by_text("as code").last.click()
    page.get_by_text("sparcl-lite run --profile smoke --method der++").wait_for()
    assert page.errors == []


def test_quickstart_runs_after_a_parameter_was_changed(page, lab):
    open_notebook(page, lab, "quickstart")
    page.locator(".jp-CodeCell .cm-content").first.click()
    page.keyboard.press("Control+Home")
    page.keyboard.press("Shift+End")
    page.keyboard.type('profile = "smoke"')
    page.keyboard.press("Escape")
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    config = RunConfig(profile="smoke", method="der++", sparse=SparCL(sparsity=0.9), buffer_size=200)
    result = stored(Store(lab.home / "store"), config)
    said = page.locator(".jp-OutputArea-output", has_text=f"check: Class-IL {result.class_il:.1f} %")
    said.wait_for()
    idle(page)
    assert page.locator("[data-mime-type='application/vnd.jupyter.error']").count() == 0
    assert page.errors == []


def stored(store, config):
    """The run of a configuration, once it is finished."""
    end = time.monotonic() + SECONDS
    while not (result := store.get(config)):
        assert time.monotonic() < end, "the run does not end"
        time.sleep(0.2)
    return result
