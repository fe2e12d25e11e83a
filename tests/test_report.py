"""Tables and figures show what was run, no more, and the same bytes each time."""

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread

from sparcl_lite.measure.statistics import Interval
from sparcl_lite.papers.claims import Claim, claims
from sparcl_lite.papers.judge import judge
from sparcl_lite.papers.reference import reference
from sparcl_lite.papers.sparcl.studies import confounders, removal, sensitivity
from sparcl_lite.papers.sparcl.tables import table1, table2, table3
from sparcl_lite.report import figures
from sparcl_lite.report.tables import Table, comparison, plus_minus, scoreboard
from sparcl_lite.runs.run import run
from sparcl_lite.runs.store import Store
from sparcl_lite.runs.training import Training

ONE, TWO, THREE = (item(profile="smoke") for item in (table1, table2, table3))
FIG3, ONES, CONFOUNDERS = (item(profile="smoke") for item in (removal, sensitivity, confounders))


def frame_of(experiment, seeds=3, **rows):
    """Made-up runs: each row's Class-IL by seed; rows not named get 60, 61, ..."""
    lines = []
    for number, row in enumerate(experiment.rows):
        values = rows.get(row.id, [60 + number + seed for seed in range(seeds)])
        for seed, value in enumerate(values):
            line = dict.fromkeys(Training.columns, 1.0) | {"row": row.id, "seed": seed}
            line |= {"class_il": value, "task_il": 90.0}
            lines.append(line | {"flops_honest": 1e12 * (1 + number)})
    return pd.DataFrame(lines)


def cells(table, label, buffer=None):
    rows = table.frame[table.frame["method"] == label]
    (row,) = (rows if buffer is None else rows[rows["buffer"] == buffer]).to_dict("records")
    return row


@pytest.fixture(scope="module")
def compared():
    # differences to DER++ 1, 2, 3: 2 +- t(0.975, 2) / sqrt(3) = 2 +- 2.484, and 4, 5, 6
    rows = {"der++-200": [60, 60, 60], "sparcl-der++-0.75-200": [61, 62, 63], "sparcl-der++-0.90-200": [64, 65, 66],
            "sparcl-der++-0.95-200": [70], "er-200": [59, 58]}  # fmt: skip
    return comparison(ONE, frame_of(ONE, **rows))


def test_cells_of_the_comparison(compared):
    assert len(compared.frame) == len(ONE.rows)
    baseline, near, other = (cells(compared, f"{m}DER++{s}", 200) for m, s in (("", ""), ("SparCL-", " 0.75"),
                                                                               ("SparCL-", " 0.90")))  # fmt: skip
    assert (baseline["Class-IL ours"], baseline["Class-IL difference"]) == ("60.0 ± 0.0", "baseline")
    assert (baseline["Class-IL direction"], baseline["Class-IL inside"], baseline["n"]) == ("-", "-", 3)
    printed = reference("sparcl", "table1").set_index(["row", "column"])["value"]
    dense, sparse = (printed[row, "cifar10/class_il"] for row in ("der++-200", "sparcl-der++-0.75-200"))
    assert near["Class-IL ours"] == "62.0 ± 2.5"
    assert near["Class-IL difference"] == f"+2.0 ± 2.5 (paper {sparse - dense:+.1f})"
    assert (near["Class-IL direction"], near["Class-IL inside"]) == ("unclear", "yes")  # our interval holds zero
    assert (other["Class-IL direction"], other["Class-IL inside"]) == ("-", "no")  # +0.9 is within its error
    assert near["FLOPs paper"] == f"{printed['sparcl-der++-0.75-200', 'cifar10/flops']:.2g}".replace("e+", "e")


def test_a_single_seed_shows_no_interval_and_gets_no_verdict(compared):
    row = cells(compared, "SparCL-DER++ 0.95", 200)
    assert (row["Class-IL ours"], row["n"]) == ("70.0", 1)
    assert row["Class-IL difference"].startswith("+10.0 (paper")
    assert (row["Class-IL direction"], row["Class-IL inside"]) == ("-", "-")  # the paper has +0.3
    assert (row["Task-IL direction"], row["Task-IL inside"]) == ("unclear", "-")
    assert plus_minus(Interval(1.0, float("nan"), float("nan"), 1)) == "1.0"


def test_a_difference_over_fewer_pairs_than_the_row_has_runs_says_so(compared):
    row = cells(compared, "SparCL-ER 0.75", 200)
    assert row["n"] == 3
    assert ", n 2" in row["Class-IL difference"]
    assert ", n " not in cells(compared, "SparCL-DER++ 0.75", 200)["Class-IL difference"]


def test_italics_are_for_unconfirmed_values_alone(compared):
    lines = reference("sparcl", "table1").set_index(["row", "column"])["provenance"]
    columns = {"Class-IL paper": "class_il", "Task-IL paper": "task_il", "FLOPs paper": "flops"}
    expected = {
        (number, name)
        for number, row in enumerate(ONE.rows)
        for name, metric in columns.items()
        if lines.get((row.id, f"cifar10/{metric}"), "verified") != "verified"
    }
    assert compared.italic == expected
    assert 0 < len(expected) < 3 * 28


def test_what_the_paper_lacks_is_a_dash_and_columns_without_any_are_left_out():
    table = comparison(THREE, frame_of(THREE))
    assert not [c for c in table.frame if c in ("Task-IL paper", "Task-IL direction", "Task-IL inside")]
    row = cells(table, "DDR + DGM")
    assert [row[name] for name in ("Class-IL paper", "FLOPs paper", "Class-IL direction", "Class-IL inside")] == [
        "-"
    ] * 4
    assert "buffer" not in table.frame


def test_other_settings_are_not_set_beside_the_papers_numbers():
    changed = table3(profile="smoke", sparsity=0.9)
    table = comparison(changed, frame_of(changed))
    assert not [name for name in table.frame if name.endswith(("paper", "direction", "inside"))]
    assert not {"Paper", "Direction", "Tendency"} & set(table.caption.replace(":", "").split())
    assert set(table.frame["Class-IL difference"]) > {"baseline"}
    assert not table.italic


def test_rows_of_few_seeds_show_levels_and_no_difference():
    few = replace(ONES, rows=tuple(replace(row, seeds=3) for row in ONES.rows))
    table = comparison(few, frame_of(few))
    assert set(table.frame["Class-IL difference"]) == {"baseline", "tendency, 3 seeds"}
    assert "Tendency" in table.caption
    assert "interval lies" not in table.caption
    _, points = figures.one_at_a_time(few, frame_of(few))
    assert "difference" not in points
    assert points["class_il"].notna().all()


def test_a_figure_of_claims_shows_bound_paper_and_verdict():
    _, points = figures.effects(judged_ablation())
    assert set(points["claim"]) == {"tdm-accuracy", "ddr-accuracy", "dgm-accuracy"}
    assert points.loc[points["claim"] == "tdm-accuracy", "paper"].item() == pytest.approx(0.67)
    assert set(points["outcome"]) <= {"reproduced", "contradicted", "inconclusive"}
    assert figures.effects([])[1].empty


def test_the_figure_of_claims_has_a_panel_a_paper_and_a_readable_label_a_claim():
    """At the size of a page: no text is below 7 points, and no two labels overlap."""
    one = judged_ablation()
    two = [replace(entry, claim=entry.claim.model_copy(update={"publication": "lightcl"})) for entry in one]
    figures.use_style()
    figure, points = figures.effects(one + two)
    width, height = figure.get_size_inches()
    assert (width <= 7.5, height <= 11) == (True, True)
    assert [ax.get_title() for ax in figure.axes] == ["SparCL", "LightCL"]
    figure.canvas.draw()
    for ax in figure.axes:
        labels = [label for label in ax.get_yticklabels() if label.get_text()]
        assert [label.get_text().rstrip("*") for label in labels] == ["tdm-accuracy", "ddr-accuracy", "dgm-accuracy"]
        assert all(label.get_fontsize() >= 7 for label in labels)
        boxes = sorted((label.get_window_extent() for label in labels), key=lambda box: box.y0)
        assert all(low.y1 <= high.y0 for low, high in pairwise(boxes))
    assert points["claim"].nunique() == 3
    plt.close("all")


def test_table_and_claims_say_the_same_of_a_difference():
    judged = {entry.claim.id: entry for entry in judged_ablation()}
    row = cells(comparison(THREE, frame_of(THREE)), "TDM")
    (evidence,) = judged["tdm-accuracy"].evidence
    assert row["Class-IL inside"] == ("yes" if evidence.paper_inside else "no")
    assert row["Class-IL difference"].startswith(f"{evidence.effect.mean:+.1f} ±")


def test_a_method_without_class_il_shows_its_task_il_alone():
    frame = frame_of(ONE)
    frame.loc[frame["row"] == "packnet", "class_il"] = np.nan
    row = cells(comparison(ONE, frame), "PackNet")
    assert (row["Class-IL ours"], row["Class-IL difference"], row["Class-IL direction"]) == ("-", "-", "-")
    assert row["Task-IL ours"] == "90.0 ± 0.0"
    assert row["Task-IL difference"].startswith("+0.0 ± 0.0")


def test_the_scoreboard_leads_to_the_notebook_of_each_claim():
    claim = Claim(id="x", statement="s", source="t", rule="above", experiment="sparcl_table1", comparisons=[("a", "b")])
    board = scoreboard(judge([claim], {"sparcl_table1": ONE}, {}))
    assert '<a href="sparcl_table1.ipynb">sparcl_table1</a>' in board._repr_html_()
    assert board.frame.loc[0, "notebook"] == "sparcl_table1"


def test_rows_without_runs_are_left_out():
    frame = frame_of(ONE)
    table = comparison(ONE, frame[frame["row"].isin(["sgd", "sparcl-er-0.75-200"])])
    assert list(table.frame["method"]) == ["SGD", "SparCL-ER 0.75"]
    assert set(table.frame["Class-IL difference"]) == {"-"}
    assert set(table.frame["Class-IL direction"]) == {"-"}
    assert "Difference" not in table.caption


def test_markdown_and_html_of_a_table(compared):
    table = Table(pd.DataFrame({"method": ["A", "B"], "value": ["1", "2"]}), "caption", {(1, "value")})
    assert table.to_markdown() == "| method | value |\n|---|---|\n| A | 1 |\n| B | *2* |"
    page = table._repr_html_()
    assert page.count("font-style: italic") == 1
    assert "caption" in page
    assert compared._repr_html_() == compared._repr_html_()
    assert compared._repr_html_().count("background-color: #d5ecd9") == 1  # one style for all that agree
    assert "caption" in repr(table)


def test_text_of_a_table_is_escaped():
    page = Table(pd.DataFrame({"a<b": ["1 < 2 & <script>"]}), "x<y")._repr_html_()
    assert "<script>" not in page
    assert "1 &lt; 2 &amp; &lt;script&gt;" in page
    assert "a&lt;b" in page
    assert "x&lt;y" in page


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    store = Store(tmp_path_factory.mktemp("store"))
    row = table3(profile="smoke", tasks=2, images_per_class=10).row("tdm+ddr+dgm")
    (config,) = table3(profile="smoke", tasks=2, images_per_class=10).configs(row, 1)
    return run(config, store=store)


BLOCKS = pd.DataFrame(
    [
        {"pretraining": start, "task": task, "block": block, "seed": seed,
         "plasticity": 1 - 0.1 * depth - 0.01 * task, "stability": 0.9 - 0.2 * depth + 0.1 * seed}
        for start in ("none", "other classes")
        for task in (2, 3)
        for depth, block in enumerate(("stem", "layer1.0", "layer2.0"))
        for seed in (0, 1)
    ]
)  # fmt: skip
LABELS = np.arange(100) % 10, tuple("abcdefghij")
IMAGES = np.random.default_rng(0).integers(256, size=(100, 1, 8, 8), dtype=np.uint8)


def judged_ablation():
    """Claims of the ablation, judged on made-up runs."""
    return judge(claims("sparcl"), {"sparcl_table3": THREE}, {"sparcl_table3": frame_of(THREE)})


DRAWN = {
    "accuracy_by_sparsity": lambda result: figures.accuracy_by_sparsity(ONE, frame_of(ONE, **{"er-200": [50]})),
    "ablation": lambda result: figures.ablation(THREE, frame_of(THREE)),
    "ablation_single_seed": lambda result: figures.ablation(THREE, frame_of(THREE, seeds=1)),
    "ablation_elsewhere": lambda result: figures.ablation(table3(sparsity=0.9), frame_of(THREE)),
    "all_methods": lambda result: figures.all_methods(ONE, frame_of(ONE, **{"ewc": [50]})),
    "sparse_rivals": lambda result: figures.sparse_rivals(TWO, frame_of(TWO)),
    "accuracy_by_flops": lambda result: figures.accuracy_by_flops(ONE, frame_of(ONE)),
    "removal": lambda result: figures.removal(FIG3, frame_of(FIG3)),
    "effects": lambda result: figures.effects(judged_ablation()),
    "one_at_a_time": lambda result: figures.one_at_a_time(ONES, frame_of(ONES)),
    "against_each": lambda result: figures.against_each(CONFOUNDERS, frame_of(CONFOUNDERS)),
    "mask_survival": lambda result: figures.mask_survival({"0.75": [result], "two": [result] * 2}),
    "survival_by_layer": lambda result: figures.survival_by_layer({"s 0.75": [result]}),
    "removed_samples": lambda result: figures.removed_samples(result, *LABELS),
    "easiest_and_hardest": lambda result: figures.easiest_and_hardest(result, IMAGES, *LABELS),
    "generalizability": lambda result: figures.generalizability(BLOCKS, "layer2.0"),
    "accuracy_matrices": figures.accuracy_matrices,
    "training_trace": figures.training_trace,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DRAWN)
def test_a_figure_is_saved_with_its_points_and_twice_the_same(name, result, tmp_path):
    for folder in ("first", "second"):
        with plt.style.context("default"):
            figures.use_style()
            figure, points = DRAWN[name](result)
            figures.save(figure, points, tmp_path / folder, name)
            plt.close(figure)
    first, second = ({p.name: p.read_bytes() for p in (tmp_path / f).iterdir()} for f in ("first", "second"))
    assert set(first) == {f"{name}.{ending}" for ending in ("pdf", "png", "csv")}
    assert first == second
    image = imread(tmp_path / "first" / f"{name}.png")
    assert min(image.shape[:2]) > 300
    assert len(np.unique(image.reshape(-1, image.shape[2]), axis=0)) > 20  # not blank
    saved = pd.read_csv(tmp_path / "first" / f"{name}.csv", keep_default_na=False, na_values=[""])
    pd.testing.assert_frame_equal(saved, points, check_dtype=False, rtol=1e-5)


def test_points_are_the_means_and_intervals_of_the_runs():
    _, points = figures.accuracy_by_sparsity(ONE, frame_of(ONE, **{"der++-200": [60, 61, 62], "er-200": [50]}))
    ours = points[points["source"] == "ours"].set_index("row")
    assert set(ours["method"]) == {"sgd", "joint", "er", "der++"}  # the other methods have a figure of their own
    assert ours["masked"].sum() == 16
    assert ours.loc["der++-200", ["class_il", "low", "high", "n"]].tolist() == pytest.approx(
        [61, 61 - 2.4841, 61 + 2.4841, 3], abs=1e-3
    )
    assert ours.loc["er-200", ["low", "high"]].isna().all()
    _, points = figures.ablation(THREE, frame_of(THREE, none=[60, 60, 60], tdm=[61, 62, 63, 90], dgm=[59]))
    points = points.set_index("row")
    assert points.loc["tdm", ["difference", "n"]].tolist() == [2, 3]  # pairs
    assert points.loc["none", ["difference", "low", "high", "n", "honest_share"]].tolist() == [0, 0, 0, 3, 1]
    assert points.loc["dgm", ["low", "high"]].isna().all()
    assert points["paper_difference"].notna().sum() == 5
    assert points.loc["tdm+ddr+dgm", "paper_difference"] == pytest.approx(74.09 - 72.70)


def test_every_dense_method_shows_the_papers_value_and_ours():
    _, points = figures.all_methods(ONE, frame_of(ONE))
    dense = {row.id for row in ONE.rows if "sparse" not in row.values}
    ours = points[(points["source"] == "ours") & (points["metric"] == "Task-IL")]
    assert set(ours["row"]) == dense
    assert (ours["accuracy"] == 90.0).all()
    printed = points[(points["source"] == "paper") & (points["metric"] == "Class-IL")].set_index("row")["accuracy"]
    assert set(printed.index) == {name for name in dense if "+mask" not in name} - {"packnet", "lps"}
    assert printed["a-gem-200"] == 20.04


def test_differences_of_the_studies_are_those_of_the_baseline_that_each_row_names():
    frame = frame_of(CONFOUNDERS, **{"dense": [60, 60], "sparse": [61, 62], "dense+mask": [70, 70],
                                     "sparse+mask": [69, 69]})  # fmt: skip
    _, points = figures.against_each(CONFOUNDERS, frame)
    points = points.set_index("row")
    assert points.loc["sparse", ["difference", "against", "n"]].tolist() == [1.5, "dense", 2]
    assert points.loc["sparse+mask", ["difference", "against"]].tolist() == [-1.0, "dense+mask"]
    assert {"dense", "er"}.isdisjoint(points.index)
    _, points = figures.removal(FIG3, frame_of(FIG3, **{"none": [60, 60], "random-0.50": [55, 56]}))
    chosen = points[(points["rule"] == "random") & (points["removed"] == 50)]
    assert chosen["difference"].tolist() == [-4.5]


def test_survival_weighs_layers_by_their_weights(result):
    matrix = figures.runs.overall_survival(result, "weight")
    layers = result.sparse["weight_survival"]
    sizes = {"layer1.0.conv1.weight": 576, "layer3.0.conv2.weight": 9216}  # 8 x 8 x 9, 32 x 32 x 9
    assert sizes.keys() <= layers.keys()
    assert matrix.diagonal() == pytest.approx(1.0)
    total = sum(m[0][1] * {"layer1": 576, "layer2.0.conv1": 1152, "layer2": 2304, "layer3.0.conv1": 4608}.get(
        next(k for k in ("layer2.0.conv1", "layer3.0.conv1", "layer1", "layer2", "layer3") if name.startswith(k)), 9216)
        for name, m in layers.items())  # fmt: skip
    assert matrix[0][1] == pytest.approx(total / (576 * 2 + 1152 + 2304 + 4608 + 9216))


def test_removed_samples_are_told_from_those_kept():
    result = SimpleNamespace(sparse={"misclassified": [0, 5, 1, 7], "removed": [[[0]], [[2]]]})
    _, points = figures.removed_samples(result, np.array([0, 0, 1, 1]), ("a", "b"))
    balance = points[points["what"] == "class"].set_index("x")["share"]
    assert balance.to_dict() == {"a": 50.0, "b": 50.0}
    removed = points[points["what"] == "removed"]["share"].tolist()
    assert removed == [50.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0, 100.0]
    kept = points[points["what"] == "kept"]["share"].tolist()
    assert kept == [0.0, 0.0, 0.0, 0.0, 0.0, 50.0, 50.0, 100.0]


def test_a_single_seed_draws_no_interval():
    figure, _ = figures.ablation(THREE, frame_of(THREE, seeds=1))
    (bars,) = figure.axes[0].containers
    assert not any(len(segment) for segment in bars.lines[2][0].get_segments())
    figure, _ = figures.accuracy_by_sparsity(ONE, frame_of(ONE, **{"er-200": [50]}))
    er = next(bars for bars in figure.axes[2].containers if bars.get_label() == "ER")
    drawn = [len(segment) == 2 for segment in er.lines[2][0].get_segments()]
    assert drawn == [False, True, True, True]  # the others keep theirs
    plt.close("all")


def test_generalizability_draws_a_line_a_task_and_their_mean():
    figure, points = figures.generalizability(BLOCKS, "layer2.0")
    assert len(points) == 2 * 2 * 3  # the mean of two seeds each
    assert points.loc[points["block"] == "layer1.0", "stability"].tolist() == pytest.approx([0.75] * 4)
    assert [ax.get_title() for ax in figure.axes[:2]] == ["none", "other classes"]
    lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
    np.testing.assert_allclose(lines["task 2"].get_ydata(), [0.98, 0.88, 0.78])
    np.testing.assert_allclose(lines["mean"].get_ydata(), [0.975, 0.875, 0.775])
    assert [tick.get_text() for tick in figure.axes[2].get_xticklabels()] == ["stem", "layer1.0", "layer2.0"]
    edges = [line.get_xdata()[0] for line in figure.axes[0].get_lines() if line.get_linestyle() == ":"]
    assert edges == [1.5]
    plt.close(figure)


def test_colours_are_fixed_per_method():
    expected = {"sgd": "#999999", "joint": "#000000", "er": "#E69F00", "der": "#009E73", "der++": "#0072B2"}
    assert {name: figures.colour_of(name) for name in expected} == expected
    assert figures.colour_of("a method of mine") == figures.colour_of("a method of mine")
    figure, _ = figures.accuracy_by_sparsity(ONE, frame_of(ONE))
    for ax in figure.axes:
        colours = {bars.get_label().removesuffix(", masked loss"): bars.lines[0].get_color() for bars in ax.containers}
        assert colours == {"ER": figures.colour_of("er"), "DER++": figures.colour_of("der++")}
        assert ax.get_xlabel() or ax in figure.axes[:2]
    plt.close("all")
