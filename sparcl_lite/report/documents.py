"""Generated blocks of README.md and docs/, between markers: results from `results/`, notebooks from their metadata."""

import re
from pathlib import Path
from typing import Any

import pandas as pd

from sparcl_lite.data.streams import planned_sizes, steps_per_epoch
from sparcl_lite.measure.statistics import Interval, half_width, pooled_spread, seeds_for
from sparcl_lite.papers.claims import RUN_RULES
from sparcl_lite.papers.clfd.costs import points
from sparcl_lite.papers.clfd.tables import gain_of_sparcl
from sparcl_lite.papers.differences import differences
from sparcl_lite.papers.experiments import Experiment
from sparcl_lite.papers.measured import cost_rounds
from sparcl_lite.papers.registry import ALL_SEEDS, experiments, judged
from sparcl_lite.papers.verdicts import Judged
from sparcl_lite.registry import DATASETS
from sparcl_lite.report import notebooks, performance
from sparcl_lite.report.budget import costs_table, goal
from sparcl_lite.report.tables import (
    BESIDE_PAPER,
    METRIC_NAMES,
    PUBLICATIONS,
    VERDICTS,
    Table,
    comparison,
    scoreboard,
    signed,
    verdict_line,
)
from sparcl_lite.runs.result import Seconds
from sparcl_lite.runs.store import Store

DOCUMENTS = ("README.md", "docs/index.md", "docs/results.md", "docs/performance.md")
METRIC_COLUMNS = ("paper", "ours", "difference", *BESIDE_PAPER)
CLASS_IL = [f"Class-IL {column}" for column in METRIC_COLUMNS]
BOTH = [f"{metric} {column}" for metric in METRIC_NAMES.values() for column in METRIC_COLUMNS]
#: Experiments shown whole in docs/results.md, by the profile of their runs.
TABLES = {
    "lite": ("sparcl_table1", "sparcl_table2", "sparcl_table3", "sparcl_fig3", "sparcl_confounders", "lightcl_table1"),
    "desk": (
        "sparcl_table1", "sparcl_table2", "sparcl_table3", "sparcl_fig3", "sparcl_confounders", "clfd_tables",
        "clfd_ablation", "lightcl_table1",
    ),
}  # fmt: skip
DATA = {"desk": "CIFAR-10 (`desk`)", "lite": "`lite`"}  # where verdicts are from: the papers' own data first
SAME_AT_BOTH = ("ksparse",)  # papers whose runs at `desk` are those of `lite`
NO_RUNS = "No runs yet."
COUNTS = (3, 5, 10)  # of seeds
STEP_MS = 5, 20  # assumed of an H100 and batches of 32, whose kernels are too small to fill it
PRECISION = 0.75  # points: half of an interval that shows a difference of 1.5
CLAIM_COLUMNS = ["claim", "expected", "measured", "verdict", "paper inside", "seeds to decide"]


def blocks(results: Path) -> dict[str, str]:
    """Markdown of each block by its name; those of results from the runs in `results`."""
    store, found, frames, tables = Store(results), {}, {}, {}
    for profile, names in TABLES.items():
        known, prefix = experiments(profile), "" if profile == "lite" else f"{profile}_"
        frames[profile] = {name: known[name].stored(seeds=ALL_SEEDS, store=store) for name in names}
        tables[profile] = {
            name: None if frame.empty else comparison(known[name], frame) for name, frame in frames[profile].items()
        }
        found |= {prefix + name: _whole(table) for name, table in tables[profile].items()}
        found[f"{prefix}core"] = _core(tables[profile]["sparcl_table1"])
    entries = {profile: judged_at(store, profile) for profile in DATA}
    frontier = experiments("desk")["frontier"]
    frames["desk"]["frontier"] = frontier.stored(seeds=ALL_SEEDS, store=store)
    measured = frontier, frames["desk"]["frontier"], cost_rounds(store, "desk")
    return found | {
        "notebooks": notebooks.listing().to_markdown(),
        "verdicts": _verdicts(entries).to_markdown(),
        "claims": _claims(entries["lite"]),
        "desk_claims": _claims(entries["desk"]),
        "desk_frontier": _frontier(*measured),
        "desk_headline": f"{_headline(tables['desk']['sparcl_table1'])}\n\n{_goal(*measured)}",
        "desk_gain": _gain(frames["desk"]["clfd_tables"]),
        "desk_planned": _planned(store),
        "desk_noise": _noise(frames["desk"]),
        "paper_size": _paper_size(),
        **performance.blocks(store),
    }


def judged_at(store: Store, profile: str) -> list[Judged]:
    """The claims of the papers with runs at a profile, and CLFD's at `desk`: the papers' own data."""
    entries = judged(store, profile=profile)
    ran = [entry for entry in entries if entry.claim.rule in RUN_RULES and any(e.runs for e in entry.evidence)]
    with_runs = {entry.claim.publication for entry in ran}
    shown = with_runs - set(SAME_AT_BOTH) | {"clfd"} if profile == "desk" else with_runs
    return [entry for entry in entries if entry.claim.publication in shown]


def _claims(entries: list[Judged]) -> str:
    board = scoreboard(entries)
    return f"{verdict_line(entries)}. {board.caption}\n\n{_select(board, CLAIM_COLUMNS).to_markdown()}"


def _whole(table: Table | None) -> str:
    return NO_RUNS if table is None else f"{table.caption}\n\n{_select(table, BOTH).to_markdown()}"


def _frontier(experiment: Experiment, frame: pd.DataFrame, reports: list[dict[str, Any]]) -> str:
    """Accuracy and measured costs at `desk`, of what has both; accuracy alone where no costs were measured."""
    if frame.empty:
        return NO_RUNS
    if not reports:
        return f"Seconds and memory are not measured yet. {_whole(comparison(experiment, frame))}"
    table = costs_table(experiment, points(experiment, frame, reports), reports[0])
    return f"{table.caption}\n\n{table.to_markdown()}"


def _goal(experiment: Experiment, frame: pd.DataFrame, reports: list[dict[str, Any]]) -> str:
    """What the most accurate row at `desk` that is fast enough costs and gives, else the fastest one."""
    return NO_RUNS if frame.empty or not reports else goal(points(experiment, frame, reports))


def _gain(frame: pd.DataFrame) -> str:
    """SparCL-ER's gain at `desk` and its parts, once every part has runs."""
    parts = None if frame.empty else gain_of_sparcl(experiments("desk")["clfd_tables"], frame)
    if parts is None or not parts.attrs["complete"]:
        return NO_RUNS
    points = [signed(effect) for effect in _effects(parts)]
    shown = Table(parts[["comparison"]].assign(points=points, n=parts["n"]))
    return f"{shown.to_markdown()}\n\nIn words: {parts.attrs['verdict']}."


def _planned(store: Store) -> str:
    """How much of what is planned at `desk` was run, and what that took; a run of two experiments counts once."""
    lines, known, counted = [], experiments("desk"), set()
    for name in (*TABLES["desk"], "frontier"):
        rows = [(row.id, known[name].configs(row, ALL_SEEDS)) for row in known[name].rows]
        made = {config.key: store.find(config) for _, configs in rows for config in configs}
        found = {key: result for key, result in made.items() if result is not None}
        without = [row for row, configs in rows if not any(config.key in found for config in configs)]
        new = made.keys() - counted
        counted |= new
        lines.append(
            {
                "experiment": name,
                "rows with runs": f"{len(rows) - len(without)} of {len(rows)}",
                "runs": f"{len(found.keys() & new)} of {len(new)}",
                "core-hours": f"{sum(_processor_hours(found[key].seconds) for key in found.keys() & new):.1f}",
                "without a run": ", ".join(f"`{row}`" for row in without) or "-",
            }
        )
    return Table(pd.DataFrame(lines)).to_markdown()


def _paper_size() -> str:
    """How many steps Table 1 takes at the paper's full size, and the hours of a GPU that follow from an assumption."""
    experiment = experiments("paper")["sparcl_table1"]
    configs = [config for row in experiment.rows for config in experiment.configs(row, 1)]
    steps = sum(
        config.epochs * steps_per_epoch(config, samples)
        for config in configs
        for samples in planned_sizes(config, DATASETS[config.dataset])
    )
    millions, ms = f"{steps / 1e6:.1f}", " to ".join(str(value) for value in STEP_MS)
    hours = " to ".join(f"{steps * value / 3.6e6:.0f}" for value in STEP_MS)
    return (
        f"One seed of `sparcl_table1` at `paper` has {len(configs)} runs and {millions} million steps, before SparCL\n"
        f"removes data. No GPU has trained them so far. If a step takes {ms} milliseconds on an H100, which is an\n"
        f"assumption, one seed takes {hours} hours. While it trains, the sweep shows what is left by its own measure."
    )


def _effects(found: pd.DataFrame) -> list[Interval]:
    return [Interval(*line) for line in found[["difference", "low", "high", "n"]].itertuples(index=False)]


def _noise(frames: dict[str, pd.DataFrame]) -> str:
    """How much differences paired by seed vary at `desk`, their intervals, and how many seeds are enough."""
    lines, known = [], experiments("desk")
    for name, frame in frames.items():
        if effects := [effect for effect in _effects(differences(known[name], frame)) if effect.n > 1]:
            spread = pooled_spread(effects)
            halves = {f"± with {n} seeds": f"{half_width(spread, n):.1f}" for n in COUNTS}
            needed = {f"seeds for ± {PRECISION}": seeds_for(PRECISION, spread) or "over 10,000"}
            lines.append({"experiment": name, "differences": len(effects), "spread": f"{spread:.1f}"} | halves | needed)
    return Table(pd.DataFrame(lines)).to_markdown() if lines else NO_RUNS


def _processor_hours(seconds: Seconds) -> float:
    """What a run took of one core; of a run that did not measure that, its time."""
    train, evaluation = seconds.train_processor, seconds.eval_processor
    return ((seconds.train if train is None else train) + (seconds.eval if evaluation is None else evaluation)) / 3600


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


def _headline(table: Table | None) -> str:
    """Class-IL accuracy of DER++ and SparCL over it, under the paper's loss, one size of buffer beside the other."""
    plain = pd.Series() if table is None else table.frame["method"].str.fullmatch(r"(SparCL-)?DER\+\+( [\d.]+)?")
    if not plain.any():
        return NO_RUNS
    halves, unconfirmed = [], set()
    for buffer, rows in table.frame[plain].groupby("buffer"):
        names = {f"Class-IL {name}": f"{name}, {buffer} samples" for name in ("paper", "ours", "difference")}
        ours = rows["Class-IL ours"] + " (n " + rows["n"].astype(str) + ")"
        halves.append(rows.assign(**{"Class-IL ours": ours}).set_index("method")[[*names]].rename(columns=names))
        unconfirmed |= {(rows["method"][n], names[c]) for n, c in table.italic if n in rows.index and c in names}
    shown = pd.concat(halves, axis=1).fillna("-").reset_index()
    return Table(shown, italic={(shown["method"].eq(m).idxmax(), c) for m, c in unconfirmed}).to_markdown()


def _core(table: Table | None) -> str:
    """DER++ and SparCL over it: what the paper is about."""
    if table is None or not table.frame["method"].str.contains(r"DER\+\+").any():
        return NO_RUNS
    rows = table.frame[table.frame["method"].str.contains(r"DER\+\+")].index
    italic = {(rows.get_loc(row), column) for row, column in table.italic if row in rows}
    shown = Table(table.frame.loc[rows].reset_index(drop=True), table.caption, italic)
    return _select(shown, CLASS_IL).to_markdown()


def _verdicts(entries: dict[str, list[Judged]]) -> Table:
    """How many claims of each paper have which verdict, by where the runs are from."""
    lines = [
        {"paper": PUBLICATIONS[entry.claim.publication], "runs": DATA[profile], "verdict": entry.verdict}
        for profile in DATA
        for entry in entries[profile]
    ]
    table = pd.DataFrame(lines)
    counts = pd.crosstab([table["paper"], table["runs"]], table["verdict"]).reindex(
        columns=list(VERDICTS), fill_value=0
    )
    order = [(name, data) for name in PUBLICATIONS.values() for data in DATA.values() if (name, data) in counts.index]
    return Table(counts.loc[order].reset_index().rename_axis(columns=None))


def _select(table: Table, columns: list[str]) -> Table:
    wanted = [name for name in table.frame if name in (*columns, "buffer", "method", "n")]
    italic = {(row, column) for row, column in table.italic if column in wanted}
    return Table(table.frame[wanted], table.caption, italic)
