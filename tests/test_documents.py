"""README.md and docs/results.md say what the committed results say."""

import re
from pathlib import Path

import pytest

from sparcl_lite.papers.measured import benchmarks
from sparcl_lite.papers.registry import experiments
from sparcl_lite.report import documents, performance
from sparcl_lite.runs.benchmark import Measurement
from sparcl_lite.runs.store import Store

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def known():
    return documents.blocks(ROOT / "results")


@pytest.mark.parametrize("name", documents.DOCUMENTS)
def test_a_document_holds_the_tables_of_the_committed_results(name, known):
    text = (ROOT / name).read_text(encoding="utf-8")
    assert documents.filled(text, known) == text


def test_every_block_is_shown_once(known):
    text = "".join((ROOT / name).read_text(encoding="utf-8") for name in documents.DOCUMENTS)
    assert all(text.count(f"<!-- {name} -->") == text.count(f"<!-- end {name} -->") == 1 for name in known)


def test_an_unknown_block_is_named():
    with pytest.raises(ValueError, match="block 'lost': unknown; allowed: here"):
        documents.filled("<!-- lost -->\n\n<!-- end lost -->", {"here": ""})


def test_tables_of_the_papers_own_data_are_shown_once_there_are_runs(known, tmp_path):
    empty = documents.blocks(tmp_path)
    assert {name for name, text in empty.items() if text == documents.NO_RUNS} >= {"desk_core", "desk_frontier", "core"}
    assert empty["desk_headline"].split("\n\n") == [documents.NO_RUNS] * 2
    experiment = experiments("desk")["clfd_tables"]
    store, row = Store(tmp_path), experiment.row("clfd-er-50")
    lite = next(result for result in Store(ROOT / "results").results("training") if result.config.method == "er")
    for config in experiment.configs(row, 2):
        store.put(lite.model_copy(update={"config": config}))
    frontier = experiments("desk")["frontier"]
    (plain,) = frontier.configs(frontier.row("er-200"), 1)
    store.put(lite.model_copy(update={"config": plain}))
    parts = ("er-50", "er-50+mask", "sparcl-er-0.75-50+mask-ddr", "sparcl-er-0.75-50+mask")
    assert empty["desk_gain"] == documents.NO_RUNS
    for part in parts:
        for config in experiment.configs(experiment.row(part), 1 if part.endswith("ddr") else 2):
            store.put(lite.model_copy(update={"config": config}))
    found = documents.blocks(tmp_path)
    assert "| the masked loss alone, dense | +0.0 ± 0.0 | 2 |" in found["desk_gain"]
    assert "| sparsity, all masked, on all data | +0.0 | 1 |" in found["desk_gain"]
    assert "In words: one seed decides nothing." in found["desk_gain"]
    assert re.search(r"\| 50 \| CLFD-ER \| 45.56 ± 3.71 \| .* \| 2 \|", found["desk_clfd_tables"])
    assert found["desk_frontier"].startswith("Seconds and memory are not measured yet.")
    assert re.search(r"\| ER \| .* \| 1 \|", found["desk_frontier"])
    assert "| 200 | ER |" in found["desk_sparcl_table1"]
    assert found["desk_core"] == documents.NO_RUNS  # without any run of DER++
    assert found["desk_headline"].startswith(documents.NO_RUNS)
    assert re.search(
        r"^\| clfd_tables \| 5 of 17 \| 9 of 140 \| 0.\d \| .*`er-125`", found["desk_planned"], re.MULTILINE
    )
    assert "| clfd_tables | 3 | 0.0 | 0.0 | 0.0 | 0.0 | 2 |" in found["desk_noise"]
    assert empty["desk_noise"] == documents.NO_RUNS
    assert "| sparcl_table1 | 1 of 34 | 1 of 210 |" in found["desk_planned"]
    assert "| frontier | 1 of 22 | 0 of 75 |" in found["desk_planned"]  # the run of ER is in the table above


def test_a_table_at_full_size_is_told_in_steps_and_hours(known):
    text = " ".join(known["paper_size"].split())
    runs, millions, quick, slow = re.search(
        r"has (\d+) runs and (\S+) million .* takes (\d+) to (\d+) hours", text
    ).groups()
    steps = 5 * 50 * -(-10_000 // 32)  # tasks, epochs, batches of two classes of CIFAR-10
    assert float(millions) == round(int(runs) * steps / 1e6, 1)
    assert int(runs) == len(experiments("paper")["sparcl_table1"].rows)
    assert (int(quick), int(slow)) == tuple(round(int(runs) * steps * ms / 1000 / 3600) for ms in documents.STEP_MS)


def test_the_readme_leads_with_sparcls_table_on_the_papers_data(known):
    lines = known["desk_headline"].splitlines()
    names = ["DER++", "SparCL-DER++ 0.75", "SparCL-DER++ 0.90", "SparCL-DER++ 0.95"]
    assert [line.split(" | ")[0].lstrip("| ") for line in lines[2:6]] == names
    whole = [[cell.strip() for cell in line.split("|")[1:-1]] for line in known["desk_sparcl_table1"].splitlines()]
    rows = {(row[0], row[1]): row for row in whole if len(row) > 2}
    for name, line in zip(names, lines[2:6], strict=True):
        cells = [cell.strip() for cell in line.split("|")[2:-1]]
        for buffer, (printed, ours, difference) in (("200", cells[:3]), ("500", cells[3:])):
            row = rows[buffer, name]
            assert [printed, ours, difference] == [row[2], f"{row[3]} (n {row[-1]})", row[4]]
    assert lines[6] == ""
    assert lines[7].startswith("12x faster than dense ER and not less accurate: ")


def test_verdicts_say_where_their_runs_are_from(known):
    lines = [line for line in known["verdicts"].splitlines() if line.startswith("| ")]
    assert lines[0] == "| paper | runs | reproduced | contradicted | inconclusive | not testable here |"
    shown = [tuple(line.strip("| ").split(" | ")[:2]) for line in lines[1:]]
    assert len(set(shown)) == len(shown)
    assert {("SparCL", "`lite`"), ("LightCL", "`lite`"), ("CLFD", "CIFAR-10 (`desk`)")} <= set(shown)
    assert ("CLFD", "`lite`") not in shown  # it has claims about the papers' own data only
    assert sum("K-sparse" in line for line in lines) == 1  # its runs are the same at both


def test_tables_of_speed_are_those_of_the_measurements(tmp_path):
    assert {*performance.blocks(Store(tmp_path)).values()} == {performance.NO_RUNS}
    store, experiment = Store(tmp_path), benchmarks()
    reports = {
        "sweep-torchvision-resnet18": {"dense_ms": 101.26, "speedup": {"0.9": 2.512, "0.95": 3.5}},
        "memory-torchvision-vgg11_bn": {"dense_bytes": 1_150_400_000, "sparse_bytes": 778_000_000, "ratio": 0.676},
        "rivals": {
            "rows": [
                {"task": "linear", "rival": "masked", "sparsity": None, "speedup": 0.98, "peak_bytes": 33_600_000},
                {"task": "linear", "rival": "SparseLab", "sparsity": 0.9, "speedup": 2.054, "peak_bytes": None},
            ],
        },
    }
    for name, report in reports.items():
        (config,) = experiment.configs(experiment.row(name), 1)
        about = {"settings": {"threads": 2, "levels": [0.75, 0.9]}, "environment": {"processor": "a processor"}}
        store.put(Measurement(config=config, report=report | about, finished=""))
    found = performance.blocks(store)
    assert "| torchvision's resnet18, 64x64, batch 32 | 2 | 101 ms |  | 2.51x | 3.50x |  |" in found["steps"]
    assert "| torchvision's vgg11_bn, 32x32, batch 32 | 1150 MB | 778 MB | 0.68 |" in found["peaks"]
    assert "| linear | masked | 0.98x, 34 MB | 0.98x, 34 MB |" in found["rivals"]
    assert "| linear | SparseLab |  | 2.05x |" in found["rivals"]
    assert found["rivals"].endswith("On a processor.")
