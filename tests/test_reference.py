"""The papers' numbers: valid files, the papers' values, and no bad file is read."""

import re

import pytest

from sparcl_lite.papers import reference as module
from sparcl_lite.papers.reference import COLUMNS, PROVENANCES, reference

HEADER = ",".join(COLUMNS)
LINE = "table9,er-200,cifar10/class_il,44.79,1.86,10,verified,where it comes from"
ROW = r"(?:sparcl-)?(.+?)(?:-(0\.\d+))?(?:-[25]00)?"  # method and sparsity
DENSE_UNITS = {"ewc": 3, "lwf": 3, "a-gem": 4, "icarl": 4, "er": 4, "fdr": 5, "der++": 5}
UNIT = {
    "cifar10": 2 * 555_422_720 * 50_000 * 50,
    "tiny-imagenet": 2 * 2_221_772_800 * 100_000 * 100,
}
DENSE_SHARE = {"cifar10": 0.01452, "tiny-imagenet": 0.01456}  # stem, shortcuts and linear layer


def cells(item):
    return reference("sparcl", item).set_index(["row", "column"])


@pytest.mark.parametrize("item", ["table1", "table2", "table3"])
def test_the_tables_are_valid(item):
    table = reference("sparcl", item)
    assert tuple(table.columns) == COLUMNS
    assert not table.duplicated(["row", "column"]).any()
    assert set(table["provenance"]) <= set(PROVENANCES)
    is_flops = table["column"].str.endswith("/flops")
    assert table.loc[~is_flops, "value"].between(0, 100).all()
    assert table.loc[is_flops, "value"].between(1e14, 1e18).all()
    assert table.loc[is_flops, ["std", "n"]].isna().all(axis=None)
    assert (table.loc[table["n"].notna(), "provenance"] == "verified").all()


def test_the_tables_are_complete():
    # 4 accuracies and 2 FLOPs a row: 12 dense and 12 SparCL rows; PackNet and LPS have no Class-IL;
    # JOINT, SGD and DER are no rows of the paper's table and have no FLOPs
    assert len(reference("sparcl", "table1")) == 24 * 6 + 2 * 4 + 4 * 4
    assert len(reference("sparcl", "table2")) == 6 * 4
    assert len(reference("sparcl", "table3")) == 5 * 2


@pytest.mark.parametrize(
    ("item", "row", "column", "value", "std", "n", "provenance"),
    [
        ("table1", "der++-200", "cifar10/class_il", 64.88, 1.17, 10, "verified"),
        ("table1", "joint", "tiny-imagenet/task_il", 82.04, None, 10, "verified"),
        ("table1", "ewc", "cifar10/task_il", 68.29, 3.92, 10, "verified"),
        ("table1", "packnet", "cifar10/flops", 5.0e15, None, None, "recalled"),
        ("table1", "sparcl-er-0.75-200", "cifar10/class_il", 46.89, 0.68, None, "recalled"),
        ("table1", "sparcl-er-0.75-200", "cifar10/flops", 2.0e15, None, None, "verified"),
        ("table1", "sparcl-der++-0.95-500", "cifar10/flops", 0.6e15, None, None, "recalled"),
        (
            "table1",
            "sparcl-der++-0.95-500",
            "tiny-imagenet/class_il",
            19.01,
            1.32,
            None,
            "verified",
        ),
        ("table2", "snip-der++-0.90-500", "cifar10/class_il", 69.82, 0.72, None, "recalled"),
        ("table2", "rigl-der++-0.95-500", "tiny-imagenet/flops", 1.4e16, None, None, "derived"),
        ("table3", "none", "cifar10/class_il", 72.70, None, 10, "verified"),
        ("table3", "tdm+dgm", "cifar10/flops", 3.3e15, None, None, "recalled"),
    ],
)
def test_spot_values(item, row, column, value, std, n, provenance):
    cell = cells(item).loc[(row, column)]
    assert cell["value"] == value
    assert (cell.isna()["std"] and std is None) or cell["std"] == std
    assert (cell.isna()["n"] and n is None) or cell["n"] == n
    assert cell["provenance"] == provenance


@pytest.mark.parametrize("data", ["cifar10", "tiny-imagenet"])
def test_flops_follow_the_papers_accounting(data):
    unit, digit = UNIT[data], 1e14 if data == "cifar10" else 1e15
    table = cells("table1").xs(f"{data}/flops", level="column")["value"]
    for row, value in table.drop(["packnet", "lps"]).items():
        method, sparsity = re.fullmatch(ROW, row).groups()
        flops = DENSE_UNITS[method] * unit
        if sparsity:
            dense = DENSE_SHARE[data]
            flops *= (dense + (1 - dense) * (1 - float(sparsity))) * 0.775 * 0.90
        assert abs(value - flops) <= 0.5 * digit, row


def test_lightcls_table_is_complete_and_valid():
    table = reference("lightcl", "table1")
    assert len(table) == 11 * 8 - 2  # PNN must be told the task: no Class-IL
    metric = table["column"].str.split("/").str[1]
    limits = {"class_il": (0, 100), "task_il": (0, 100), "flops": (1e15, 2e18), "memory": (25, 700)}
    for name, (low, high) in limits.items():
        assert table.loc[metric == name, "value"].between(low, high).all(), name
    accuracies = table[metric.isin(["class_il", "task_il"])]
    assert accuracies["std"].notna().all()
    assert (accuracies["n"] == 5).all()
    assert table.loc[~table.index.isin(accuracies.index), ["std", "n"]].isna().all(axis=None)
    assert set(table["provenance"]) == {"verified"}


@pytest.mark.parametrize(
    ("row", "column", "value", "std"),
    [
        ("lightcl-15", "cifar10/class_il", 55.53, 0.35),
        ("lightcl-0.90-15", "tiny-imagenet/memory", 87.1, None),
        ("sparcl-der++-0.90-15", "tiny-imagenet/memory", 536.8, None),
        ("er-15", "cifar10/class_il", 54.44, 2.82),
        ("pnn", "tiny-imagenet/task_il", 73.94, 3.56),
        ("joint", "tiny-imagenet/flops", 1.2e18, None),
        ("fdr-15", "tiny-imagenet/flops", 1.77e17, None),
    ],
)
def test_spot_values_of_lightcls_table(row, column, value, std):
    cell = reference("lightcl", "table1").set_index(["row", "column"]).loc[(row, column)]
    assert cell["value"] == pytest.approx(value, rel=1e-12)
    assert (cell.isna()["std"] and std is None) or cell["std"] == std


def test_tables_agree_where_they_share_a_cell():
    first, second, third = cells("table1"), cells("table2"), cells("table3")
    shared = second.index.intersection(first.index)
    assert len(shared) == 2 * 4
    assert second.loc[shared, "value"].equals(first.loc[shared, "value"])
    for ablation, row in [("none", "der++-500"), ("tdm+ddr+dgm", "sparcl-der++-0.75-500")]:
        for column in ("cifar10/class_il", "cifar10/flops"):
            assert third.loc[(ablation, column), "value"] == first.loc[(row, column), "value"]


@pytest.mark.parametrize(
    ("paper", "item", "message"),
    [
        ("spacl", "table1", r"paper: got 'spacl', allowed are \[.*'sparcl'"),
        ("..", "table1", "paper: got '..'"),
        ("__pycache__", "table1", "paper: got '__pycache__'"),
        ("sparcl", "table9", r"item: got 'table9', allowed are \[.*'table1'"),
        ("sparcl", "../sparcl/table1", "item: got '../sparcl/table1'"),
    ],
)
def test_unknown_names_are_refused(paper, item, message):
    with pytest.raises(ValueError, match=message):
        reference(paper, item)


@pytest.fixture
def write_csv(tmp_path, monkeypatch):
    """Writes a paper `new` with an item `table9` where `reference` looks for papers."""
    monkeypatch.setattr(module, "files", lambda package: tmp_path)
    (tmp_path / "new").mkdir()
    return lambda *lines: (tmp_path / "new" / "table9.csv").write_text("\n".join(lines) + "\n")


def test_a_new_paper_is_found(write_csv):
    write_csv(HEADER, LINE, LINE.replace("er-200", "none").replace("1.86,10", ","))
    table = reference("new", "table9")
    assert table["row"].tolist() == ["er-200", "none"]
    assert table["value"].tolist() == [44.79, 44.79]
    assert table[["std", "n"]].isna().all(axis=1).tolist() == [False, True]
    assert str(table["n"].dtype) == "Int64"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("table9,", "table8,", "line 2, item: got 'table8', allowed: 'table9'"),
        ("verified", "certain", "line 2, provenance: got 'certain', allowed: .*'verified'"),
        ("44.79", "", "line 2, value: got '', allowed: a number"),
        ("44.79", "44.79%", "line 2, value: got '44.79%', allowed: a finite number"),
        ("44.79", "inf", "line 2, value: got 'inf'"),
        ("1.86", "-1", "line 2, std: got '-1', allowed: 0 or more"),
        (",10,", ",0,", "line 2, n: got '0', allowed: a whole number from 1"),
        (",10,", ",2.5,", "line 2, n: got '2.5'"),
        ("er-200", " ", "line 2, row: got ' ', allowed: text"),
        ("where it comes from", "", "line 2, note: got ''"),
    ],
)
def test_a_bad_line_is_refused(write_csv, old, new, message):
    assert old in LINE
    write_csv(HEADER, LINE.replace(old, new, 1))
    with pytest.raises(ValueError, match=f"new/table9.csv: {message}"):
        reference("new", "table9")


def test_a_second_line_for_a_cell_and_a_wrong_header_are_refused(write_csv):
    write_csv(HEADER, LINE, LINE)
    with pytest.raises(ValueError, match="line 3, row: got 'er-200', allowed: one line per row"):
        reference("new", "table9")
    write_csv(HEADER.replace("std", "sd"), LINE)
    with pytest.raises(ValueError, match=r"new/table9.csv: columns: got \['item', .*'sd'"):
        reference("new", "table9")
