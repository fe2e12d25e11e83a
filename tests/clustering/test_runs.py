"""Clustering runs: addressed by content, kept and found again; experiments, claims and tables made of them."""

import math
from importlib.resources import files
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from sparcl_lite.cli import app
from sparcl_lite.clustering.config import ClusteringConfig, ClusteringResult
from sparcl_lite.clustering.data.loaders import BUNDLES
from sparcl_lite.clustering.scores import accuracy
from sparcl_lite.clustering.tuning import FRACTIONS, choose_eta
from sparcl_lite.config import PROFILES
from sparcl_lite.errors import KitError
from sparcl_lite.measure.statistics import CONTRADICTED, INCONCLUSIVE, REPRODUCED, UNTESTABLE
from sparcl_lite.papers.claims import claims
from sparcl_lite.papers.ksparse.experiments import EXPERIMENTS, scaling, tables
from sparcl_lite.papers.ksparse.judge import _converges as converges
from sparcl_lite.papers.ksparse.judge import log_slope
from sparcl_lite.papers.ksparse.rows import NEEDS
from sparcl_lite.papers.ksparse.sizes import chosen_eta, path_etas, profile_named
from sparcl_lite.papers.registry import ALL_SEEDS, experiments, judge_claims, judged
from sparcl_lite.registry import CLUSTERERS
from sparcl_lite.report.clustering import gains, methods, selection, sizes, slopes, w_step
from sparcl_lite.report.tables import scoreboard
from sparcl_lite.runs.clustering import cells_of
from sparcl_lite.runs.run import run
from sparcl_lite.runs.store import DamagedResult, Store
from sparcl_lite.runs.sweep import SweepError, sweep


def config_of(**values):
    small = {"dataset": "simulated", "method": "k-sparse", "cells": 60, "genes": 80}
    return ClusteringConfig(**(small | {"options": {"eta": 20.0, "n_init": 1, "max_iter": 2}} | values))


def test_the_address_is_that_of_what_decides_the_numbers():
    key = config_of().key
    assert key == config_of(profile="smoke").key
    assert key == ClusteringConfig.model_validate_json(config_of().model_dump_json()).key
    others = [config_of(seed=1), config_of(method="pca"), config_of(share=0.5), config_of(logs=True),
              config_of(options={"eta": 21.0})]  # fmt: skip
    assert len({key, *(other.key for other in others)}) == 6


def test_numbers_of_numpy_address_the_run_of_pythons():
    plain = config_of(options={"eta": 20.0, "n_init": 2, "accelerated": True}, seed=3)
    options = {"eta": np.float64(20), "n_init": np.int64(2), "accelerated": np.bool_(True)}
    given = config_of(options=options, seed=np.uint8(3), cells=np.int32(60))
    assert (given.key, given) == (plain.key, plain)
    assert [type(value) for value in given.options.values()] == [float, int, bool]


def test_a_method_whose_numbers_changed_has_other_keys_and_the_rest_keep_theirs():
    keys = {method: ClusteringConfig(dataset="khan", method=method).key for method in ("pca", "spectral", "k-sparse")}
    assert keys == {
        "pca": "0d8c73e10968d3852c72", "spectral": "4eb2ef4ae1bfd7d561a0", "k-sparse": "169b7a67f59c5b47397c",
    }  # fmt: skip
    assert ClusteringConfig(dataset="khan", method="simlr").key != "de56c9cb5acd1f436907"


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"dataset": "khan"}, "cells = 60: only for dataset = 'simulated'"),
        ({"share": 0.0}, "share"),
        ({"method": "dbscan"}, "method"),
        ({"eta": 3.0}, "eta"),
    ],
)
def test_wrong_configurations_are_refused(values, field):
    with pytest.raises(ValidationError, match=field):
        config_of(**values)


def test_a_clustering_is_made_once(tmp_path):
    store = Store(tmp_path / "own", tmp_path / "evidence")
    first = run(config_of(), store=store)
    (path,) = (store.root / "clustering").glob("*.json")
    written = path.stat().st_mtime_ns
    assert sweep([config_of(), config_of(method="pca", options={})], store=store, progress=False)[0] == first
    assert path.stat().st_mtime_ns == written
    assert len(list(store.results())) == 2
    assert store.verify() == []
    path.write_text("{}")
    with pytest.raises(DamagedResult, match="is damaged"):
        store.get(config_of())


def test_a_folder_of_clusterings_is_no_store(tmp_path):
    result = run(config_of(), store=tmp_path)
    stray = Store(tmp_path / "clustering")
    for look in (stray.verify, stray.prune, lambda: list(stray.results())):
        with pytest.raises(KitError, match="belongs to a store of runs; allowed: the folder it is in"):
            look()
    assert Store(tmp_path).get(config_of()) == result
    assert ClusteringResult.model_validate_json(result.model_dump_json()) == result


def test_a_failing_clustering_does_not_end_its_batch(tmp_path, capsys):
    failing = config_of(method="pca", options={"colour": "red"})
    configs = [config_of(seed=1), failing, config_of(seed=2)]
    with pytest.raises(SweepError) as error:
        sweep(configs, store=tmp_path)
    message = str(error.value)
    assert message.startswith(f"1 of 3 runs failed: pca, simulated, seed 0 ({failing.key}): TypeError: ")
    assert "colour" in message
    assert "\n" not in message
    assert {result.config.seed for result in Store(tmp_path).results()} == {1, 2}
    out, err = capsys.readouterr()
    assert out == ""
    assert "3/3" in err


def test_clusterings_are_timed_here_whatever_the_scheduler(tmp_path):
    (result,) = sweep([config_of()], store=tmp_path, scheduler="tcp://127.0.0.1:9", progress=False)
    assert Store(tmp_path).get(config_of()) == result


class Halves:
    """An estimator of a user: the first half of the samples, and the others."""

    def __init__(self, n_clusters, at=0.5):
        self.n_clusters, self.at = n_clusters, at

    def fit_predict(self, X):
        return (np.arange(len(X)) >= self.at * len(X)).astype(int)


@pytest.fixture
def halves():
    CLUSTERERS.register("halves", Halves, version="1")
    yield Halves
    CLUSTERERS.forget("halves")


def test_a_registered_estimator_clusters_and_its_identity_is_part_of_the_key(tmp_path, halves):
    config = config_of(method="halves", options={"at": 0.25})
    result = run(config, store=tmp_path)
    assert result.config.registered == {"method": "1"}
    assert (result.features, result.initial) == (None, None)
    assert result.silhouette is not None
    labels = np.arange(60) >= 15
    assert result.final.accuracy == accuracy(cells_of(config).labels, labels)
    CLUSTERERS.register("halves", Halves, version="2", replace=True)
    changed = config_of(method="halves", options={"at": 0.25})
    assert changed.key != config.key
    assert Store(tmp_path).get(changed) is None
    CLUSTERERS.forget("halves")
    assert Store(tmp_path).get(config) == result  # a store is read where its methods are not registered
    assert [kept.config.key for kept in Store(tmp_path).results()] == [config.key]


@pytest.mark.parametrize("method", ["k-sparse", "pca", "spectral", "simlr", "sparse-kmeans"])
def test_every_method_reports_what_it_has(tmp_path, method):
    options = config_of().options if method == "k-sparse" else {}
    result = run(config_of(method=method, options=options), store=tmp_path)
    assert 0.25 <= result.final.accuracy <= 1
    assert (result.cells, result.genes) == (60, 80)
    selects = method in ("k-sparse", "sparse-kmeans")
    assert (result.features is not None) == (result.precision is not None) == (len(result.ranking) > 0) == selects
    assert (result.initial is not None) == (method == "k-sparse")
    assert min(result.seconds, result.cpu_seconds) > 0
    assert result.peak_memory_bytes >= 60 * 80 * 4
    assert {"scikit-learn", "threads", "commit"} <= result.environment.keys()


def test_the_command_line_runs_one_clustering(tmp_path):
    given = ["run", "--dataset", "simulated", "--method", "k-sparse", "--set", "cells=60", "--set", "genes=80",
             "--set", "options.eta=20.0", "--set", "options.n_init=1", "--set", "options.max_iter=2"]  # fmt: skip
    done = CliRunner().invoke(app, [*given, "--store", str(tmp_path)])
    assert done.exit_code == 0, done.output
    result = Store(tmp_path).get(config_of())
    assert f"k-sparse, simulated, seed 0: accuracy {100 * result.final.accuracy:.2f}, ARI" in done.output


def test_shares_are_drawn_by_the_seed():
    whole, first, second = (cells_of(ClusteringConfig(dataset="khan", method="pca", **given))
                            for given in ({}, {"share": 0.5}, {"share": 0.5, "seed": 1}))  # fmt: skip
    assert whole.X.shape[0] == BUNDLES["khan"].cells
    assert first.X.shape[0] == len(first.labels) == round(0.5 * 83)
    assert (first.labels != second.labels).any()


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiments_have_rows_that_can_be_run(name, profile):
    experiment = EXPERIMENTS[name](profile=profile)
    ids = [row.id for row in experiment.rows]
    assert len(set(ids)) == len(ids)
    assert {row.against for row in experiment.rows} - {None} <= set(ids)
    assert all(experiment.configs(row, ALL_SEEDS) for row in experiment.rows)
    assert experiment.row(ids[0]).id == ids[0]


def test_every_claim_refers_to_rows_with_the_seeds_it_needs():
    listed = claims("ksparse")
    assert len({claim.id for claim in listed}) == len(listed)
    for claim in listed:
        rows = {row.id: row for row in EXPERIMENTS[claim.experiment](profile="lite").rows}
        named = {name for pair in claim.comparisons for name in pair}
        assert named <= set(rows)
        if claim.rule == "above":
            slow = {name for name in named if rows[name].values.get("method") in ("simlr", "sparse-kmeans")}
            assert all(rows[name].seeds == (3 if name in slow else ALL_SEEDS) for name in named)


def test_eta_was_chosen_for_every_data_set_and_by_no_label():
    for dataset in profile_named("lite")["datasets"]:
        assert 0 < chosen_eta(dataset, "released", "genes") <= chosen_eta(dataset, "released", "silhouette") * 5
        assert chosen_eta(dataset, "described", "silhouette") > 0
    assert path_etas() == sorted(path_etas())
    with pytest.raises(KitError, match="profile = 'huge' is unknown; allowed: desk, smoke, lite, paper"):
        tables(profile="huge")


@pytest.mark.parametrize("variant", ["released", "described"])
@pytest.mark.parametrize("dataset", profile_named("lite")["datasets"])
def test_the_record_of_tuning_has_as_many_candidates_everywhere_and_no_choice_on_an_edge(dataset, variant):
    record = pd.read_csv(files("sparcl_lite.papers.ksparse").joinpath("eta.csv"), keep_default_na=False)
    path = record[(record["dataset"] == dataset) & (record["variant"] == variant) & (record["chosen"] != "genes")]
    assert len(path) == len(FRACTIONS)
    chosen = chosen_eta(dataset, variant, "silhouette")
    assert path["eta"].min() < chosen < path["eta"].max()
    assert chosen == choose_eta(path)


def test_sparse_kmeans_chose_among_as_many_and_not_on_an_edge(tmp_path):
    committed, experiment = Store(tmp_path, Path(__file__).parents[2] / "results"), tables(profile="lite")
    rows = [row for row in experiment.rows if row.values["method"] == "sparse-kmeans"]
    for config in (config for row in rows for config in experiment.configs(row, ALL_SEEDS)):
        details = committed.get(config).details
        assert len(details["s_tried"]) == len(FRACTIONS)
        assert details["s_tried"][0] < details["s"] < details["s_tried"][-1]


def frame_of(values, metric="accuracy"):
    return pd.DataFrame([{"row": row, "seed": seed, metric: value} for row, given in values.items()
                         for seed, value in enumerate(given)])  # fmt: skip


def test_accuracy_claims_are_judged_by_paired_intervals(tmp_path):
    listed = next(claim for claim in claims("ksparse") if claim.id == "above-simlr")
    better = {a: [90.0, 91, 90, 91] for a, _ in listed.comparisons}
    worse = {b: [80.0, 80, 81, 80] for _, b in listed.comparisons}
    experiment, frame = {"ksparse_tables": tables()}, frame_of(better | worse).assign(criterion=None)
    verdict = {e.claim.id: e for e in judge_claims(experiment, {"ksparse_tables": frame}, Store(tmp_path))}
    assert verdict["above-simlr"].verdict == REPRODUCED
    assert verdict["above-pca"].verdict == UNTESTABLE
    assert set(verdict) == {"above-pca", "above-spectral", "above-simlr", "above-sparse-kmeans", "converges"}
    shown = scoreboard(list(verdict.values()))
    assert "clustering accuracy" in shown.caption
    assert "never increases, last change below 1% of the start" in shown.frame["expected"].to_list()


@pytest.mark.parametrize(
    ("trace", "outcome"),
    [
        ([300.0, 10, 2, 1.95], REPRODUCED),
        ([300.0, 10, 2, 0.5], REPRODUCED),  # of the start 0.5 %, of the value after the first loop 15 %
        ([300.0, 100, 50, 20], INCONCLUSIVE),  # one run settles, the other does not
        ([300.0, 10, 10.1, 10], CONTRADICTED),
    ],
)
def test_convergence_needs_steps_that_all_fall_and_a_last_one_that_is_small_beside_the_start(trace, outcome):
    claim = next(claim for claim in claims("ksparse") if claim.rule == "never_increases")
    relative = [[0.5, 0.2, 0.1], [0.6, 0.3, 0.2]]
    frame = pd.DataFrame({"row": ["a", "a"], "criterion": [[300.0, 10, 1, 1], trace], "relative_criterion": relative})
    found = converges(claim, None, frame, "a", "a")
    assert found.outcome == outcome
    assert f"{0 if outcome == REPRODUCED or trace[2] == 50 else 1} increases in 6 steps" in found.note
    assert "scale-free 0.55 after the first loop, 0.15 after the last" in found.note
    assert converges(claim, None, pd.DataFrame(), "a", "a").outcome == UNTESTABLE
    older = frame.assign(criterion=None)  # runs that did not keep the start
    assert converges(claim, None, older, "a", "a").outcome == UNTESTABLE


@pytest.mark.parametrize(("power", "verdict"), [(1.0, REPRODUCED), (1.2, CONTRADICTED), (0.8, CONTRADICTED)])
def test_the_slope_decides_on_linearity(power, verdict, tmp_path):
    experiment = scaling(profile="lite")
    rows = [row for row in experiment.rows if row.id.startswith("cells/")]
    counts = [row.values["cells"] for row in rows]
    assert counts[-1] == 1_000_000
    measured = {"n_genes": 2_000, "nonzeros": 1, "seconds": 1.0, "peak_memory_bytes": 2e9}
    frame = pd.DataFrame({"row": [row.id for row in rows], "cells": counts} | measured)
    frame["cpu_seconds"] = frame["cells"] ** power
    (judged_claim,) = judge_claims({"ksparse_scaling": experiment}, {"ksparse_scaling": frame}, Store(tmp_path))
    assert judged_claim.verdict == verdict
    assert f"slope {power:.2f}" in judged_claim.evidence[0].note
    (missing,) = judge_claims({"ksparse_scaling": experiment}, {"ksparse_scaling": frame[:-1]}, Store(tmp_path))
    assert missing.verdict == UNTESTABLE
    assert len(sizes(frame).frame) == len(rows)


def test_slopes_are_those_of_the_logs():
    assert log_slope([1.0, 10, 100], [3.0, 30, 300]) == pytest.approx(1)
    columns = ["row", "cells", "n_genes", "nonzeros", "seconds", "cpu_seconds", "peak_memory_bytes"]
    lines = [("cells/1", 1, 5, 1, 1, 1, 1), ("cells/2", 10, 5, 1, 10, 50, 1), ("cells/2", 10, 5, 1, 10, 150, 1),
             ("genes/1", 5, 1, 1, 1, 1, 1), ("genes/2", 5, 10, 1, 10, 10, 10)]  # fmt: skip
    found = slopes(pd.DataFrame(lines, columns=columns))
    assert found["CPU time against cells"] == pytest.approx(2)  # of the median of 50 and 150
    assert found["memory against cells"] == pytest.approx(0)
    assert found["memory against genes"] == pytest.approx(1)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory):
    """All smoke clusterings of the tables and the ablation, made from the command line in one store."""
    store = tmp_path_factory.mktemp("store")
    done = CliRunner().invoke(
        app,
        ["sweep", "ksparse_tables", "ksparse_ablation", "--profile", "smoke", "--seeds", "1", "--store", str(store)],
    )
    assert done.exit_code == 0, done.output
    return Store(store)


def test_tables_hold_every_row(smoke):
    experiment = tables(profile="smoke")
    frame = experiment.stored(seeds=1, store=smoke)
    assert experiment.complete(frame, 1)
    shown = methods(experiment, frame)
    rivals = [label for label in shown.frame["method"] if not label.startswith(("Leiden", "K-sparse"))]
    assert rivals == 2 * ["PCA + k-means", "spectral", "SIMLR", "sparse k-means"]
    added = w_step(frame)
    assert set(added.frame["data"]) == {"khan", "simulated"}
    ablated = EXPERIMENTS["ksparse_ablation"](profile="smoke")
    table = gains(ablated, ablated.stored(seeds=1, store=smoke))
    assert len(table.frame) == len(ablated.rows)
    assert (selection(experiment, frame).frame["precision %"] == "-").sum() >= 7  # khan's truth is not known
    assert not any(math.isnan(value) for value in frame["accuracy"])
    traced = frame.dropna(subset="criterion")
    assert [len(trace) for trace in traced["criterion"]] == [len(t) + 1 for t in traced["relative_criterion"]]
    variants = {"K-sparse", "K-sparse, 10 % of genes", "K-sparse, as described", "K-sparse, our defaults"}
    assert set(traced["method"]) == variants


def test_rows_that_need_what_is_not_installed_are_told_and_left_out(smoke, monkeypatch, tmp_path):
    monkeypatch.setitem(NEEDS, "leiden", ("scanpy_of_nobody",))
    experiment = tables(profile="smoke", datasets=["khan"])
    assert "leiden" not in {job.config.method for job in experiment.jobs(seeds=1)}
    frame = experiment.stored(seeds=1, store=smoke)
    known = frame[frame["row"] != "khan/leiden"]
    assert experiment.left_out(known) == ["khan/leiden is left out: scanpy_of_nobody not installed"]
    assert experiment.complete(known, 1)
    assert not experiment.complete(known[known["row"] != "khan/pca"], 1)
    computed = known.iloc[:1].assign(row="khan/leiden")  # elsewhere, and kept in the store
    assert experiment.left_out(pd.concat([known, computed])) == []
    assert experiment.complete(pd.concat([known, computed]), 1)
    assert not experiment.complete(pd.concat([known, computed, computed]), 1)
    given = ["sweep", "ksparse_tables", "--profile", "smoke", "--rows", "khan/leiden", "--store", str(tmp_path)]
    done = CliRunner().invoke(app, given)
    assert done.exit_code == 0, done.output
    assert "khan/leiden is left out: scanpy_of_nobody not installed" in done.output
    assert "0 runs" in done.output


def test_claims_are_judged_from_what_is_stored(smoke):
    verdicts = [entry for entry in judged(smoke, profile="smoke") if entry.claim.publication == "ksparse"]
    assert [entry.claim.id for entry in verdicts] == [claim.id for claim in claims("ksparse")]
    assert {entry.verdict for entry in verdicts} == {UNTESTABLE}  # at smoke the deciding rows are not there
    assert "no row" in verdicts[0].reason


def test_wrong_names_end_with_what_is_allowed(tmp_path):
    result = CliRunner().invoke(app, ["sweep", "ksparse_table", "--store", str(tmp_path)])
    assert isinstance(result.exception, KitError)
    assert all(name in str(result.exception) for name in experiments("lite"))


@pytest.mark.parametrize("name", ["ksparse_tables", "ksparse_ablation"])
def test_the_command_line_shows_the_table_of_clusterings(smoke, name):
    done = CliRunner().invoke(app, ["table", name, "--profile", "smoke", "--store", str(smoke.root), "--markdown"])
    assert done.exit_code == 0, done.output
    assert "| data |" in done.output
    assert "K-sparse, as described" in done.output


def test_upkeep_looks_after_clusterings_too(smoke):
    listed = CliRunner().invoke(app, ["store", "list", "--store", str(smoke.root)]).output
    assert "simlr, khan, seed 0: accuracy" in listed
    count = len(list(smoke.results()))
    assert f"{count} sound runs" in CliRunner().invoke(app, ["store", "verify", "--store", str(smoke.root)]).output
    assert CliRunner().invoke(app, ["store", "prune", "--store", str(smoke.root)]).exit_code == 0
    wrong = CliRunner().invoke(app, ["store", "verify", "--store", str(smoke.root / "clustering")])
    assert "belongs to a store of runs" in str(wrong.exception)
    assert len(list(smoke.results())) == count
