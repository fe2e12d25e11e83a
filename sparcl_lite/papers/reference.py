"""Reads the papers' own numbers from CSV files, `<paper>/<item>.csv`, one per table or figure.

One line is one number. Columns: `item` (the file's name), `row` and `column` (ids, unique as a
pair), `value`, `std` (empty when not established), `n` (runs behind the mean, empty when not
established), `provenance` and `note` (where the number comes from). Accuracies are in %, columns
named `flops` in FLOPs, columns named `memory` in MiB. `provenance` is one of

- `verified`: the printed number is confirmed by a source other than the paper, among them a picture
  of the printed table in the authors' repository;
- `recalled`: the printed number is not confirmed; a target to compare with, no ground truth;
- `derived`: computed with the paper's accounting where the printed number is missing or uncertain.
"""

from importlib.resources import files
from importlib.resources.abc import Traversable

import pandas as pd

__all__ = ["COLUMNS", "PROVENANCES", "reference"]

COLUMNS = ("item", "row", "column", "value", "std", "n", "provenance", "note")
PROVENANCES = ("verified", "recalled", "derived")


def reference(paper: str, item: str) -> pd.DataFrame:
    """The numbers of one table or figure, e.g. `reference("sparcl", "table1")`, in file order.

    Columns as in the module's docstring: `value` and `std` float (`std` NaN when empty), `n`
    nullable integer, the others text. Raises ValueError on an unknown paper or item and on a file
    that breaks the rules above.

    >>> table = reference("sparcl", "table3").set_index(["row", "column"])
    >>> float(table.loc[("tdm+ddr+dgm", "cifar10/class_il"), "value"])
    74.09
    """
    papers = {folder.name: _items(folder) for folder in files(__package__).iterdir()}
    papers = {name: items for name, items in papers.items() if items}
    if paper not in papers:
        raise ValueError(f"paper: got {paper!r}, allowed are {sorted(papers)}")
    if item not in papers[paper]:
        raise ValueError(f"item: got {item!r}, allowed are {sorted(papers[paper])}")
    with papers[paper][item].open(encoding="utf-8") as file:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
    try:
        return _checked(table, item)
    except ValueError as error:
        raise ValueError(f"{paper}/{item}.csv: {error}") from error


def _items(folder: Traversable) -> dict[str, Traversable]:
    """The CSV files of a paper's folder by item id; empty for anything that is no such folder."""
    if not folder.is_dir():
        return {}
    csvs = (path for path in folder.iterdir() if path.name.endswith(".csv"))
    return {path.name.removesuffix(".csv"): path for path in csvs}


def _checked(table: pd.DataFrame, item: str) -> pd.DataFrame:
    """`table` with its columns typed, once every rule of the format holds."""
    if tuple(table.columns) != COLUMNS:
        raise ValueError(f"columns: got {list(table.columns)}, allowed are {list(COLUMNS)}")
    _require(table, "item", table["item"] == item, f"{item!r}")
    _require(table, "provenance", table["provenance"].isin(PROVENANCES), f"{PROVENANCES}")
    for field in ("row", "column", "note"):
        _require(table, field, table[field].str.strip() != "", "text that is not empty")
    _require(table, "row", ~table.duplicated(["row", "column"]), "one line per row and column")
    typed = table.assign(**{field: _numbers(table, field) for field in ("value", "std", "n")})
    _require(table, "value", typed["value"].notna(), "a number")
    _require(table, "std", ~(typed["std"] < 0), "0 or more, or nothing")
    _require(table, "n", ~((typed["n"] < 1) | (typed["n"] % 1 > 0)), "a whole number from 1, or nothing")
    return typed.astype({"n": "Int64"})


def _numbers(table: pd.DataFrame, field: str) -> pd.Series:
    """A column of text as floats, NaN where it is empty."""
    numbers = pd.to_numeric(table[field], errors="coerce").astype(float)
    empty = table[field] == ""
    _require(table, field, empty | numbers.abs().lt(float("inf")), "a finite number")
    return numbers.mask(empty)


def _require(table: pd.DataFrame, field: str, valid: pd.Series, allowed: str) -> None:
    """Raise ValueError naming the file's line (the header is line 1) of the first invalid entry."""
    if not valid.all():
        first = int((~valid).to_numpy().argmax())
        raise ValueError(f"line {first + 2}, {field}: got {table[field].iloc[first]!r}, allowed: {allowed}")
