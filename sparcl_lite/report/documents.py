"""Generated blocks of README.md and docs/, between markers: results from `results/`, notebooks from their metadata."""

import re
from pathlib import Path

import pandas as pd

from sparcl_lite.papers.registry import ALL_SEEDS, experiments, judged
from sparcl_lite.papers.verdicts import Judged
from sparcl_lite.report import notebooks
from sparcl_lite.report.tables import BESIDE_PAPER, METRIC_NAMES, Table, comparison, scoreboard, verdict_line
from sparcl_lite.runs.store import Store

DOCUMENTS = ("README.md", "docs/index.md", "docs/results.md")
METRIC_COLUMNS = ("paper", "ours", "difference", *BESIDE_PAPER)
CLASS_IL = [f"Class-IL {column}" for column in METRIC_COLUMNS]
BOTH = [f"{metric} {column}" for metric in METRIC_NAMES.values() for column in METRIC_COLUMNS]
#: Experiments shown whole in docs/results.md.
TABLES = ("sparcl_table1", "sparcl_table2", "sparcl_table3", "sparcl_fig3", "sparcl_confounders", "lightcl_table1")
PUBLICATIONS = {"sparcl": "SparCL", "clfd": "CLFD", "lightcl": "LightCL", "ksparse": "K-sparse"}
CLAIM_COLUMNS = ["claim", "expected", "measured", "verdict", "paper inside", "seeds to decide"]


def blocks(results: Path) -> dict[str, str]:
    """Markdown of each block by its name; those of results from the runs in `results`."""
    store, known = Store(results), experiments("lite")
    tables = {name: comparison(known[name], known[name].stored(seeds=ALL_SEEDS, store=store)) for name in TABLES}
    claims = judged(store, profile="lite")
    board = scoreboard(claims)
    return {
        "core": _core(tables["sparcl_table1"]).to_markdown(),
        "notebooks": notebooks.listing().to_markdown(),
        "verdicts": _verdicts(claims).to_markdown(),
        **{name: f"{table.caption}\n\n{_select(table, BOTH).to_markdown()}" for name, table in tables.items()},
        "claims": f"{verdict_line(claims)}. {board.caption}\n\n{_select(board, CLAIM_COLUMNS).to_markdown()}",
    }


def render(root: Path) -> None:
    """Write every block of the documents of a checkout anew. Raises ValueError on a block that is not known."""
    known = blocks(root / "results")
    for path in map(root.joinpath, DOCUMENTS):
        path.write_text(filled(path.read_text(encoding="utf-8"), known), encoding="utf-8")


def filled(text: str, known: dict[str, str]) -> str:
    """The text with what is between `<!-- NAME -->` and `<!-- end NAME -->` replaced by the block of that name."""

    def block(match: re.Match) -> str:
        name = match[1]
        if name not in known:
            raise ValueError(f"block {name!r}: unknown; allowed: {', '.join(known)}")
        return f"<!-- {name} -->\n\n{known[name]}\n\n<!-- end {name} -->"

    return re.sub(r"<!-- (\w+) -->\n.*?<!-- end \1 -->", block, text, flags=re.DOTALL)


def _core(table: Table) -> Table:
    """DER++ and SparCL over it: what the paper is about."""
    rows = table.frame[table.frame["method"].str.contains(r"DER\+\+")].index
    italic = {(rows.get_loc(row), column) for row, column in table.italic if row in rows}
    return _select(Table(table.frame.loc[rows].reset_index(drop=True), table.caption, italic), CLASS_IL)


def _verdicts(claims: list[Judged]) -> Table:
    """How many claims of each paper have which verdict."""
    counts = pd.crosstab(
        pd.Series([PUBLICATIONS[entry.claim.publication] for entry in claims], name="paper"),
        pd.Series([entry.verdict for entry in claims]),
    )
    return Table(counts.loc[[name for name in PUBLICATIONS.values() if name in counts.index]].reset_index())


def _select(table: Table, columns: list[str]) -> Table:
    wanted = [name for name in table.frame if name in (*columns, "buffer", "method", "n")]
    italic = {(row, column) for row, column in table.italic if column in wanted}
    return Table(table.frame[wanted], table.caption, italic)
