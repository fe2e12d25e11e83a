"""The view of claims: filters, the rule and the evidence of a claim, against what the report prints."""

from pathlib import Path

import pytest

from sparcl_lite.explore.claims import Claims, chosen, evidence, facts, overview
from sparcl_lite.runs.store import Store

RESULTS = Path(__file__).parents[2] / "results"


@pytest.fixture(scope="module")
def view():
    return Claims(Store("nowhere", RESULTS))


@pytest.mark.slow
def test_claims_are_filtered_by_paper_verdict_and_words(view):
    lightcl = chosen(view.judged, "lightcl", "contradicted")
    assert lightcl
    assert {(e.claim.publication, e.verdict) for e in lightcl} == {("lightcl", "contradicted")}
    assert [e.claim.id for e in chosen(view.judged, query="flops 23x")] == ["flops-23x"]
    _, points = overview(view.judged)
    assert points["claims"].sum() == len(view.judged)
    view.verdict.value = "contradicted"
    assert len(view.grid.rows) == points.loc[points["verdict"] == "contradicted", "claims"].sum()
    assert view.still()[1].startswith(f"{len(view.grid.rows)} claims: 0 reproduced")
    view.verdict.value = "all"


@pytest.mark.slow
def test_the_evidence_of_every_claim_is_drawn_from_its_comparisons(view):
    for entry in view.judged:
        _, points = evidence(entry)
        assert points["effect"].to_numpy() == pytest.approx([e.effect.mean for e in entry.evidence], nan_ok=True)
        said = facts(entry, view.store)
        assert said["verdict"].startswith(entry.verdict)
        assert entry.claim.rule in said["rule"]


@pytest.mark.slow
def test_a_click_shows_a_claim_with_a_link_to_its_notebook(view):
    view.grid.chosen = [1, 0]
    entry = view.shown[1]
    assert entry.claim.source in view.facts.value
    assert f'href="{entry.claim.experiment}.ipynb"' in view.facts.value
    assert f'alt="evidence of: {entry.claim.statement}' in view.figure.value
