"""Evidence, one line a run: found by key, exported without loss, and the committed one is whole."""

import json
import re
from pathlib import Path
from threading import Thread

import pytest

from sparcl_lite.config import RunConfig
from sparcl_lite.config.base import STORED
from sparcl_lite.papers.measured import benchmarks, measurements
from sparcl_lite.papers.registry import experiments, export
from sparcl_lite.papers.sparcl.tables import table1, table3
from sparcl_lite.report.experiments import table_of
from sparcl_lite.runs import evidence
from sparcl_lite.runs.benchmark import Measurement
from sparcl_lite.runs.job import kind_named, kinds
from sparcl_lite.runs.result import Flops, RunResult, Seconds
from sparcl_lite.runs.run import run
from sparcl_lite.runs.store import Store

RESULTS = Path(__file__).parents[1] / "results"


def result_of(config, **values):
    """A result nobody trained, with numbers that do not survive a careless round trip."""
    numbers = {"class_il": 0.1 + 0.2, "task_il": 1e16 + 2, "accuracy_matrix": [[1.0, None], [2 / 3, 1e-17]]}
    fields = {
        "task_il_matrix": [[float("nan")]], "forgetting": None, "backward_transfer": -0.0, "data_fraction": 1.0,
        "weight_density": 1.0, "gradient_density": 1.0, "flops": Flops(paper=8.3e15, honest=5e-324, by_part={}),
        "seconds": Seconds(train=1.5, eval=0.25), "peak_memory_bytes": 2**60 + 1, "training_memory_bytes": {},
        "trace": {"\u00e4 \u2028": ["a\nb", {"result": "}"}]}, "environment": {}, "started": "", "finished": "",
    }  # fmt: skip
    return RunResult(config=config, **(numbers | fields | values))


def measured(name, report):
    """A measurement of that name in `benchmarks`."""
    (config,) = benchmarks().configs(benchmarks().row(name), 1)
    return Measurement(config=config, report=report, finished="")


def planned(experiment, row, seed=0):
    return experiment.configs(experiment.row(row), 5)[seed]


@pytest.fixture
def own(tmp_path):
    """A store with two runs of a table, one that two tables share, one of no table, and a benchmark."""
    store, one = Store(tmp_path / "own"), table1(profile="lite")
    shared = planned(table3(profile="lite"), "none")
    assert shared.key == planned(one, "der++-500").key
    for config in (planned(one, "sgd"), planned(one, "sgd", 1), shared, RunConfig(profile="smoke", lr=0.012)):
        store.put(result_of(config))
    store.put(measured("memory-32", {"ratio": 0.5}))
    return store


def texts(store):
    """What the files of a store hold, by kind and key."""
    return {(kind.kind, path.stem): json.loads(path.read_text())
            for kind in kinds() for path in (store.root / kind.folder).glob("*.json")}  # fmt: skip


def test_export_keeps_every_key_and_every_value(own, tmp_path):
    to = tmp_path / "evidence"
    assert export(own, to) == {"bench": 1, "sparcl_table1": 3, "training": 1}
    lines = [line for path in to.rglob("*") if path.is_file() for line in path.read_bytes().splitlines()]
    read = {(line["kind"], line["key"]): line["result"] for line in map(json.loads, lines)}
    assert len(lines) == len(read) == 5
    assert {a: json.dumps(v) for a, v in read.items()} == {a: json.dumps(v) for a, v in texts(own).items()}
    reader = Store(tmp_path / "new", to)
    for result in own.results():
        assert reader.get(result.config).model_dump_json() == result.model_dump_json()
    assert [r.config.key for r in Store(to).results()] == [r.config.key for r in own.results()]
    assert Store(to).verify() == []
    assert not (tmp_path / "new").exists()


def test_lines_are_sorted_and_a_second_export_changes_nothing(own, tmp_path):
    to = tmp_path / "evidence"
    export(own, to)
    before = {path: path.read_bytes() for path in to.rglob("*.jsonl")}
    for path in before:
        keys = re.findall(rb'^{"kind":"\w+","key":"(\w+)","result":{', path.read_bytes(), re.MULTILINE)
        assert keys == sorted(keys)
        assert len(keys) == path.read_bytes().count(b"\n")
    export(own, to)
    export(Store(to), to)
    assert {path: path.read_bytes() for path in to.rglob("*.jsonl")} == before


def test_a_line_is_replaced_by_the_run_of_its_key_and_the_others_stay(own, tmp_path):
    to, newer = tmp_path / "evidence", Store(tmp_path / "newer")
    export(own, to)
    config = planned(table1(profile="lite"), "sgd")
    newer.put(result_of(config, class_il=12.5))
    reader = Store(tmp_path / "new", to)
    assert reader.get(config).class_il != 12.5
    assert export(newer, to) == {"bench": 1, "sparcl_table1": 3, "training": 1}
    assert reader.get(config).class_il == 12.5  # the file has changed under the reader
    stray = to / "elsewhere" / "runs.jsonl"  # the same run where it does not belong
    stray.parent.mkdir()
    stray.write_bytes((to / "sparcl_table1" / "runs.jsonl").read_bytes())
    assert export(own, to) == {"bench": 1, "sparcl_table1": 3, "training": 1}
    assert not stray.exists()


def test_two_exports_into_one_folder_at_once_lose_nothing(own, tmp_path):
    to, other = tmp_path / "evidence", Store(tmp_path / "other")
    other.put(result_of(RunConfig(profile="smoke", lr=0.013)))
    second = Thread(target=export, args=(other, to))

    def slowly(config):  # the evidence was read and is not written yet
        if second.ident is None:
            second.start()
            second.join(timeout=1)
        return "group"

    own.export(to, slowly)
    second.join()
    assert len(list(Store(to).results())) == 6


def test_a_run_is_found_without_parsing_any_other(own, tmp_path, monkeypatch):
    to = tmp_path / "evidence"
    export(own, to)
    parsed, original = [], RunResult.model_validate_json
    monkeypatch.setattr(RunResult, "model_validate_json", lambda *a, **k: parsed.append(a) or original(*a, **k))
    monkeypatch.setattr(json, "loads", lambda *_: pytest.fail("parsed"))
    reader, config = Store(tmp_path / "new", to), planned(table1(profile="lite"), "sgd")
    assert reader.get(config).config == config
    assert reader.get(planned(table1(profile="lite"), "joint")) is None
    assert len(parsed) == 1


def test_a_damaged_line_is_told_and_not_used(own, tmp_path):
    to, config = tmp_path / "evidence", planned(table1(profile="lite"), "sgd")
    export(own, to)
    path = to / "sparcl_table1" / "runs.jsonl"
    path.write_bytes(path.read_bytes().replace(b'"class_il":0.3', b'"class_il":x0.3'))
    (line,) = (line for address, line in evidence.lines(to).items() if address == ("training", config.key))
    with pytest.warns(UserWarning, match=rf"runs.jsonl, line {line.number}, is damaged \(.+\); not used"):
        assert Store(tmp_path / "new", to).get(config) is None
    with pytest.warns(UserWarning, match="not used"):
        assert Store(to).get(config) is None
    assert len(Store(to).verify()) == 3
    Store(to).put(result_of(config))  # made again
    assert Store(to).get(config) is not None
    assert len(Store(to).verify()) == 2


def test_evidence_comes_before_own_runs_and_spares_the_training(own, tmp_path, monkeypatch):
    to = tmp_path / "evidence"
    export(own, to)
    monkeypatch.setattr("sparcl_lite.runs.training.Training.compute", lambda *_: pytest.fail("trained"))
    config = planned(table1(profile="lite"), "sgd")
    here = Store(tmp_path / "here", to)
    here.put(result_of(config, class_il=1.0))
    assert run(config, store=here).class_il == 0.1 + 0.2
    frame = table1(profile="lite").stored(seeds=5, store=here)
    assert frame[["row", "seed"]].values.tolist() == [["sgd", 0], ["sgd", 1], ["der++-500", 0]]


def test_committed_evidence_is_found_under_its_keys(tmp_path):
    lines = evidence.lines(RESULTS)
    stored = Store(tmp_path, RESULTS)
    assert len(lines) >= 592
    for (kind, key), line in lines.items():
        config = kind_named(kind).result_type.model_validate_json(line.read(), context={STORED: True}).config
        assert stored.get(config).config.key == key
    assert not list(RESULTS.glob("*.json"))
    planned = {row.id for row in benchmarks().rows}
    assert set(measurements(stored)) == planned - {"frontier-smoke", "frontier-lite"}  # not measured yet


def test_committed_evidence_lies_with_the_experiment_that_plans_it(tmp_path):
    written = {path.parent.name: path.read_bytes() for path in RESULTS.glob("*/runs.jsonl")}
    export(Store(RESULTS), tmp_path)
    planned = experiments("lite").keys() & written.keys()
    assert len(planned) >= 14
    assert {name: (tmp_path / name / "runs.jsonl").read_bytes() for name in planned} == {n: written[n] for n in planned}


@pytest.mark.parametrize("name", experiments("lite"))
def test_every_experiment_has_a_table_of_its_runs(tmp_path, name):
    experiment = experiments("lite")[name]
    frame = experiment.stored(seeds=2, store=Store(tmp_path, RESULTS))
    shown = table_of(experiment, frame).frame
    assert shown.empty == frame.empty
    assert len(experiment.jobs(seeds=1)) >= 2
