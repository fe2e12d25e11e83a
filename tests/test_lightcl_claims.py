"""LightCL's claims parse, name rows of its experiments, and follow from its accounting, measurements and runs."""

import pandas as pd
import pytest

from sparcl_lite.measure.statistics import CONTRADICTED, INCONCLUSIVE, REPRODUCED, UNTESTABLE
from sparcl_lite.papers.claims import claims
from sparcl_lite.papers.judge import RULES
from sparcl_lite.papers.lightcl.accounting import COUNTINGS
from sparcl_lite.papers.lightcl.experiments import EXPERIMENTS
from sparcl_lite.papers.lightcl.judge import PEAKS
from sparcl_lite.papers.measured import benchmarks
from sparcl_lite.papers.registry import judge_claims
from sparcl_lite.report.tables import scoreboard
from sparcl_lite.runs.benchmark import Measurement
from sparcl_lite.runs.store import Store

ITEMS = {name: make(profile="paper") for name, make in EXPERIMENTS.items()}
ROWS = {name: {row.id for row in item.rows} for name, item in ITEMS.items()}
OWN_RULES = {"honest_flops", "memory_ratio", "memory_measured", "untestable"}
BASE = [70.0, 71.0, 72.0, 73.0]


def verdicts(tmp_path, frames=None, peaks=None):
    if peaks is not None:
        (config,) = benchmarks().configs(benchmarks().row(PEAKS), 1)
        Store(tmp_path).put(Measurement(config=config, report={"peak_bytes": peaks}, finished=""))
    judged = judge_claims(ITEMS, frames or {}, Store(tmp_path))
    return {entry.claim.id: entry for entry in judged}


def test_every_claim_has_a_known_rule_and_rows_that_exist():
    listed = claims("lightcl")
    assert len({claim.id for claim in listed}) == len(listed)
    for claim in listed:
        assert claim.rule in RULES or claim.rule in OWN_RULES
        if claim.rule != "untestable":
            assert {name for pair in claim.comparisons for name in pair} <= ROWS[claim.experiment]


def test_the_papers_claims_are_listed():
    listed = {claim.id: claim for claim in claims("lightcl")}
    pair = [("lightcl-0.90-15", "sparcl-der++-0.90-15")]
    for name, rule in (("memory-6.16x", "memory_ratio"), ("memory-measured", "memory_measured")):
        claim = listed[name]
        assert (claim.rule, claim.ratio, claim.comparisons) == (rule, 6.16, pair)
    rivals = {b for _, b in listed["class-il-highest"].comparisons}
    assert rivals == {row for row in COUNTINGS if "0.90" not in row} - {"joint", "pnn", "lightcl-15"}
    assert listed["lower-task-il"].comparisons == [("freeze", "sgd")]


def test_what_needs_no_runs_is_judged_by_the_tables_accounting(tmp_path):
    found = verdicts(tmp_path)
    (evidence,) = found["memory-6.16x"].evidence
    assert found["memory-6.16x"].verdict == INCONCLUSIVE  # it takes one map of the frozen part, and no second
    assert (evidence.effect.low, evidence.effect.mean, evidence.effect.high) == pytest.approx(
        (4.1, 6.4, 14.6), abs=0.05
    )
    assert "6.41x (one frozen map)" in evidence.note
    (evidence,) = found["memory-dense"].evidence
    assert found["memory-dense"].verdict == INCONCLUSIVE
    assert "4.78x (dense fit)" in evidence.note
    assert found["flops-2.7x"].verdict == REPRODUCED
    (evidence,) = found["flops-2.7x"].evidence
    assert evidence.effect.mean == pytest.approx(2.885, abs=1e-3)  # counted honestly
    assert f"{3 * 62 / (47 * 1.4833):.2f}x by the formula fitted" in evidence.note  # as Table 1 counts
    undecided = set(found) - {"memory-6.16x", "memory-dense", "flops-2.7x"}
    assert {found[name].verdict for name in undecided} == {UNTESTABLE}


@pytest.mark.parametrize(
    ("peaks", "verdict", "text"),
    [
        (None, UNTESTABLE, "not measured"),
        ({"lightcl-0.90-15": 50_000_000}, UNTESTABLE, "not measured"),
        ({"lightcl-0.90-15": 50_000_000, "sparcl-der++-0.90-15": 308_000_000}, REPRODUCED, "6.16x: 308 MB against 50"),
        ({"lightcl-0.90-15": 50_000_000, "sparcl-der++-0.90-15": 307_000_000}, CONTRADICTED, "6.14x"),
    ],
)
def test_measured_memory_has_to_reach_the_ratio_in_full(tmp_path, peaks, verdict, text):
    entry = verdicts(tmp_path, peaks=peaks)["memory-measured"]
    assert entry.verdict == verdict
    assert text in entry.evidence[0].note
    board = scoreboard([entry]).frame
    assert board.loc[0, "expected"] == "6.16x less"
    assert text in board.loc[0, "measured"]


def test_accuracies_are_judged_by_the_rules_of_all_papers(tmp_path):
    rows = {"lightcl-15": 2.0, "er-15": 0.0, "der++-15": 0.0, "sgd": 0.0, "freeze": -2.0}
    lines = [
        {"row": row, "seed": seed, "class_il": base + shift, "task_il": 90.0, "flops_honest": 1.0}
        for row, shift in rows.items()
        for seed, base in enumerate(BASE)
    ]
    found = verdicts(tmp_path, {"lightcl_table1": pd.DataFrame(lines)})
    assert found["class-il-replay"].verdict == REPRODUCED
    assert found["task-il-replay"].verdict == REPRODUCED  # equal is not below
    assert found["lower-class-il"].verdict == CONTRADICTED
    assert found["class-il-highest"].reason == "no runs of both rows"  # of EWC and FDR


def test_claims_of_absent_experiments_are_left_out(tmp_path):
    assert judge_claims({}, {}, Store(tmp_path)) == []
