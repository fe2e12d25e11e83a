"""Genes that are selected on some cells, and how well they tell the types of others."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
from typer.testing import CliRunner

from sparcl_lite.cli import app
from sparcl_lite.clustering import load
from sparcl_lite.clustering.config import RecoveryConfig, RecoveryResult
from sparcl_lite.clustering.markers import SELECTORS, known_markers, recovery
from sparcl_lite.papers.ksparse.experiments import EXPERIMENTS
from sparcl_lite.report.experiments import table_of
from sparcl_lite.report.figures.clustering import recovered
from sparcl_lite.runs.run import run
from sparcl_lite.runs.store import Store

HERE = ["k-sparse", "highly-variable", "random"]  # that need nothing else installed


@pytest.fixture(scope="module")
def typed():
    """120 samples of 3 types that differ in features 0 to 4 of 60, positive: X (120, 60), types (120,)."""
    rng = np.random.RandomState(0)
    types = np.repeat(["a", "b", "c"], 40)
    X = rng.gamma(2.0, 0.5, (120, 60)).astype(np.float32)
    X[:, :5] += 6 * rng.rand(3, 5)[np.unique(types, return_inverse=True)[1]]
    return X, types


@pytest.mark.parametrize("name", SELECTORS)
def test_every_selector_gives_as_many_different_genes_as_asked_for(typed, name):
    pytest.importorskip({"rank-genes-groups": "scanpy", "scgenefit": "scGeneFit"}.get(name, "numpy"))
    X, types = typed
    chosen, again = (SELECTORS[name](X, types, 8, seed=1) for _ in range(2))
    assert chosen.shape == (8,)
    assert len(np.unique(chosen)) == 8
    np.testing.assert_array_equal(chosen, again)
    if name not in ("random", "highly-variable"):
        assert len({*range(5)} & {*chosen.tolist()}) >= 3


def test_genes_are_selected_on_cells_that_are_not_classified(typed):
    X, types = typed
    seen = []

    def first_five(cells, labels):
        seen.append((len(cells), sorted(labels)))
        return np.arange(5)

    scores, chosen = recovery(X, types, first_five, seed=0)
    assert seen == [(84, sorted([*"abc"] * 28))]  # 70 % of every type
    assert scores["accuracy"] == scores["balanced"] > 0.9
    useless, _ = recovery(X, types, lambda cells, labels: np.arange(50, 55), seed=0)
    assert useless["accuracy"] < 0.6
    np.testing.assert_array_equal(chosen, np.arange(5))


def test_known_markers_of_blood_cells_are_among_the_named_genes():
    pbmc = load("pbmc")
    known = known_markers(pbmc.genes)
    assert {"CD79A", "MS4A1", "GNLY", "NKG7", "LYZ", "CST3", "FCER1A"} <= set(pbmc.genes[known])
    assert known.sum() == 18
    assert not known_markers(load("zeisel").genes).any()


def test_selections_are_kept_and_shown(tmp_path):
    config = RecoveryConfig(profile="smoke", dataset="pbmc", selector="k-sparse", n_genes=50, options={"n_init": 1})
    assert config.key != config.model_copy(update={"n_genes": 20}).key
    result = run(config, store=tmp_path)
    assert Store(tmp_path).get(config) == result
    assert RecoveryResult.model_validate_json(result.model_dump_json()) == result
    assert len(result.selected) == 50
    known = known_markers(load("pbmc").genes)
    assert result.markers == known[result.selected].sum() / known.sum()
    assert result.precision is None
    assert 0.4 < result.accuracy < 1


def test_the_command_line_computes_and_shows_what_can_be_computed_here(tmp_path):
    given = ["ksparse_recovery", "--profile", "smoke", "--store", str(tmp_path)]
    rows = [option for name in HERE for option in ("--rows", f"simulated/{name}-10")]
    assert CliRunner().invoke(app, ["sweep", *given, *rows, "--seeds", "1"]).exit_code == 0
    done = CliRunner().invoke(app, ["table", *given, "--markdown"])
    assert done.exit_code == 0, done.output
    assert "| simulated | 10 | K-sparse |" in done.output
    experiment = EXPERIMENTS["ksparse_recovery"](profile="smoke")
    frame = experiment.stored(seeds=1, store=Store(tmp_path))
    assert set(frame["selector"]) == {*HERE}
    assert frame["precision"].notna().all()
    figure, points = recovered(frame)
    assert len(points) == len(figure.axes[0].get_yticklabels()) == 3
    plt.close(figure)
    assert "known markers found %" not in table_of(experiment, frame).frame  # the simulator names no gene so
