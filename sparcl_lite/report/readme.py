"""The README's results: tables between markers, written from the committed results and never by hand."""

import re
from pathlib import Path

from sparcl_lite.papers.registry import ALL_SEEDS, experiments, judged
from sparcl_lite.report.tables import BESIDE_PAPER, METRIC_NAMES, Table, comparison, scoreboard, verdict_line
from sparcl_lite.store import Store

METRIC_COLUMNS = ("paper", "ours", "difference", *BESIDE_PAPER)
TABLE_COLUMNS = ["buffer", "method", *(f"Class-IL {column}" for column in METRIC_COLUMNS), "n"]
LIGHTCL_COLUMNS = [
    "method",
    *(f"{metric} {column}" for metric in METRIC_NAMES.values() for column in METRIC_COLUMNS),
    "n",
]
CLAIM_COLUMNS = ["claim", "measured", "verdict", "paper inside", "seeds to decide"]


def blocks(results: Path) -> dict[str, str]:
    """Markdown of each marked block of the README, from the runs in `results`."""
    store, known = Store(results), experiments("lite")
    tables = {
        name: comparison(known[name], known[name].stored(seeds=ALL_SEEDS, store=store))
        for name in ("sparcl_table1", "lightcl_table1")
    }
    claims = judged(store, profile="lite")
    board = scoreboard(claims)
    return {
        "table1": _select(tables["sparcl_table1"], TABLE_COLUMNS).to_markdown(),
        "lightcl": _select(tables["lightcl_table1"], LIGHTCL_COLUMNS).to_markdown(),
        "claims": f"{verdict_line(claims)}\n\n{_select(board, CLAIM_COLUMNS).to_markdown()}",
    }


def filled(text: str, results: Path) -> str:
    """The README's text with every block between `<!-- NAME -->` and `<!-- end NAME -->` written anew."""
    for name, block in blocks(results).items():
        pattern = rf"(<!-- {name} -->\n).*?(<!-- end {name} -->)"
        text, count = re.subn(pattern, lambda m, b=block: f"{m[1]}\n{b}\n\n{m[2]}", text, flags=re.DOTALL)
        if count != 1:
            raise ValueError(f"README: {count} blocks named {name}, allowed: 1")
    return text


def _select(table: Table, columns: list[str]) -> Table:
    italic = {(row, column) for row, column in table.italic if column in columns}
    return Table(table.frame[columns], table.caption, italic)
