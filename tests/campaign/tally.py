"""What became of the faults of each kind, as a table on the screen and in docs/reliability.md."""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

COLUMNS = ("injected", "survived", "lost", "wrong", "tracebacks")
FAILURES = ("lost", "wrong", "tracebacks")
BLOCK = "campaign"


@dataclass
class Tally:
    """Counts by kind of fault, and a line about each failure."""

    counts: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(lambda: dict.fromkeys(COLUMNS, 0)))
    failures: list[str] = field(default_factory=list)

    def add(self, kind: str, failures: Iterable[tuple[str, str]] = (), injected: int = 1) -> None:
        """Faults of a kind; `failures` are pairs of a column of `FAILURES` and what happened."""
        failures, row = list(failures), self.counts[kind]
        row["injected"] += injected
        row["survived"] += injected - min(injected, len(failures))
        for column, what in failures:
            row[column] += 1
            self.failures.append(f"{kind}: {column}: {what}")

    @property
    def failed(self) -> bool:
        """Whether anything was lost, wrong or ended in a traceback."""
        return any(row[column] for row in self.counts.values() for column in FAILURES)

    def markdown(self) -> str:
        """The table, with a line for the sum."""
        total = {column: sum(row[column] for row in self.counts.values()) for column in COLUMNS}
        rows = [*self.counts.items(), ("**all**", total)]
        lines = [f"| fault | {' | '.join(COLUMNS)} |", "|---" * (1 + len(COLUMNS)) + "|"]
        return "\n".join(lines + [f"| {name} | {' | '.join(str(row[c]) for c in COLUMNS)} |" for name, row in rows])

    def write(self, page: Path, said: str) -> None:
        """Put the table, and a line before it, between the markers of a page; ValueError where there are none."""
        text, block = page.read_text(encoding="utf-8"), f"{said}\n\n{self.markdown()}"
        pattern = rf"<!-- {BLOCK} -->\n.*?<!-- end {BLOCK} -->"
        if not re.search(pattern, text, flags=re.DOTALL):
            raise ValueError(f"{page}: has no block {BLOCK!r}")
        whole = f"<!-- {BLOCK} -->\n\n{block}\n\n<!-- end {BLOCK} -->"
        page.write_text(re.sub(pattern, lambda _: whole, text, flags=re.DOTALL), encoding="utf-8")
