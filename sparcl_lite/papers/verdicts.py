"""What a verdict rests on: the evidence of each comparison of a claim, and the claim judged by all of them."""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from sparcl_lite.measure.statistics import UNTESTABLE, Interval, seeds_to_decide, smallest_effect, verdict
from sparcl_lite.papers.claims import Claim
from sparcl_lite.papers.differences import inside
from sparcl_lite.papers.provenance import rule_commit, rule_first

NEWER = "rule newer than its runs"


@dataclass
class Evidence:
    """One comparison of rows a and b.

    Attributes
    ----------
    effect : in the unit of the claim's bound; a number that is counted has `low` = `high` = `mean`
    outcome : the comparison's own verdict
    paper : what the paper has for the effect, and whether that lies in our interval; None where not known
    smallest_effect, seeds_to_decide : see `measure.statistics`; None where no seeds were drawn
    runs : (when it began, the commit that made it) of every run and measurement behind it
    """

    a: str
    b: str
    effect: Interval
    note: str = ""
    outcome: str = UNTESTABLE
    paper: float | None = None
    paper_inside: bool | None = None
    smallest_effect: float | None = None
    seeds_to_decide: int | None = None
    runs: frozenset[tuple[str, str]] = frozenset()


def from_seeds(claim: Claim, a: str, b: str, effect: Interval, *, paper: float | None = None, **more: Any) -> Evidence:
    """Evidence from an interval over seeds (or rounds), at the claim's level, against its bound."""
    return Evidence(
        a, b, effect, outcome=verdict(effect, claim.bound), paper=paper, paper_inside=inside(effect, paper),
        smallest_effect=smallest_effect(effect, claim.level),
        seeds_to_decide=seeds_to_decide(effect, claim.bound, claim.level), **more,
    )  # fmt: skip


@dataclass
class Judged:
    """A claim with its verdict and what it rests on; `reason` says why it is not testable."""

    claim: Claim
    verdict: str
    evidence: list[Evidence] = field(default_factory=list)
    reason: str = ""

    @property
    def n(self) -> int:
        """Seeds of the comparison that has the fewest, of those with runs."""
        return min((e.effect.n for e in self.evidence if e.effect.n), default=0)

    @property
    def paper(self) -> float | None:
        """The value that the claim states, else the smallest that the paper has for its comparisons."""
        stated = self.claim.ratio if self.claim.ratio is not None else self.claim.expected
        known = [e.paper for e in self.evidence if e.paper is not None]
        return stated if stated is not None else min(known, default=None)

    @property
    def paper_inside(self) -> bool | None:
        """Whether the paper's values lie in all of our intervals, as far as known."""
        known = [e.paper_inside for e in self.evidence if e.paper_inside is not None]
        return all(known) if known else None

    @property
    def seeds_to_decide(self) -> int | None:
        """Seeds that would settle the claim if means and spreads were those of now.

        One comparison beyond the bound's other side settles it; else it takes all of them.
        """
        if all(e.seeds_to_decide is None for e in self.evidence):
            return None
        against = [e.seeds_to_decide for e in self.evidence if e.effect.mean < self.claim.bound]
        if against:
            return min((n for n in against if n is not None), default=None)
        needed = [e.seeds_to_decide for e in self.evidence]
        return None if None in needed else max(needed)

    @property
    def commits(self) -> list[str]:
        """The commits of its runs, that of the oldest run first."""
        runs = sorted(set().union(*(e.runs for e in self.evidence)))
        return list(dict.fromkeys(commit for _, commit in runs))

    @property
    def rule_first(self) -> bool | None:
        """Whether the claim's rule was in the source that made each of its runs; None where that cannot be known."""
        return rule_first(self.claim, self.commits)

    def report(self) -> dict[str, Any]:
        """What `sparcl-lite claims --json` prints of it, as JSON values; NaN is null."""
        claim, commits = self.claim, self.commits
        values = {
            **claim.model_dump(mode="json", include={"id", "publication", "statement", "source", "rule", "metric"}),
            "experiment": claim.experiment,
            "verdict": self.verdict,
            "bound": claim.bound,
            "level": claim.level,
            "comparisons": [_comparison(e) for e in self.evidence],
            "n": self.n,
            "paper": self.paper,
            "paper_inside": self.paper_inside,
            "seeds_to_decide": self.seeds_to_decide,
            "rule_commit": rule_commit(claim),
            "run_commits": [commits[0], commits[-1]] if commits else None,
            "rule_first": self.rule_first,
            "note": claim.note,
            "reason": self.reason,
        }
        return json.loads(json.dumps(values), parse_constant=lambda _: None)


def _comparison(evidence: Evidence) -> dict[str, Any]:
    values = asdict(evidence)
    effect = values.pop("effect")
    del values["runs"]
    return {"a": values.pop("a"), "b": values.pop("b"), **effect, **values}
