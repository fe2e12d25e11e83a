"""A claim as a line of the scoreboard page: its intervals against their bounds, as positions in a drawing."""

from collections.abc import Iterable
from typing import Any

from sparcl_lite.papers.verdicts import Evidence, Judged
from sparcl_lite.report.tables import scoreboard

WIDTH, STEP, AXIS = 240.0, 16, 16  # of the drawing, of a comparison and of the axis, in pixels
MARGIN = 0.05  # of the axis, on either side


def line(entry: Judged, notebooks: Iterable[str], here: dict[tuple[str, str], str], profile: str) -> dict[str, Any]:
    """What the template shows of a claim that runs at `profile` decide; `here` are this machine's verdicts on them, by
    paper and claim.
    """
    claim, (words,) = entry.claim, scoreboard([entry]).frame.to_dict("records")
    shown = [e for e in entry.evidence if e.effect.n]
    bounds = [claim.bound] if isinstance(claim.bound, int | float) else list(claim.bound or [])
    values = [v for e in shown for v in (*_ends(e), e.paper) if v is not None] + bounds * bool(shown)
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    pad = MARGIN * (high - low) or 1.0
    low, high = low - pad, high + pad

    def place(value: float | None) -> float | None:
        return None if value is None else round(WIDTH * (value - low) / (high - low), 1)

    lines = [
        {"y": STEP * number + STEP // 2, "mean": place(e.effect.mean), "low": place(_ends(e)[0]),
         "high": place(_ends(e)[1]), "paper": place(e.paper), "outcome": e.outcome, "bounds": list(map(place, bounds))}
        for number, e in enumerate(shown)
    ]  # fmt: skip
    return {
        "id": f"{claim.publication}-{claim.id}-{profile}",
        "profile": profile,
        "paper": claim.publication,
        **{name: words[name] for name in ("source", "expected", "measured", "verdict")},
        "statement": words["claim"],
        "seeds": words["seeds to decide"],
        "notebook": claim.experiment if claim.experiment in set(notebooks) else "",
        "lines": lines,
        "height": STEP * len(lines) + AXIS,
        "zero": place(0.0) if low < 0 < high else None,
        "left": f"{low:.3g}",
        "right": f"{high:.3g}",
        "sort": min((e.effect.mean for e in shown), default=""),
        "here": here.get((claim.publication, claim.id), "-"),
    }


def _ends(evidence: Evidence) -> tuple[float, float]:
    """The interval; the mean alone where a single seed gives none."""
    effect = evidence.effect
    return (effect.low, effect.high) if effect.low == effect.low else (effect.mean, effect.mean)
