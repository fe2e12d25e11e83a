"""Which came first, rule or runs: read from git here, too, and never passed over in silence."""

import json
import subprocess
import tomllib
from pathlib import Path

import pytest

from sparcl_lite.papers import provenance
from sparcl_lite.papers.claims import Claim
from sparcl_lite.papers.provenance import rule_commit, rule_first
from sparcl_lite.papers.registry import judged
from sparcl_lite.report.tables import scoreboard
from sparcl_lite.runs.store import Store

ROOT = Path(__file__).parents[1]
DECIDED_BY = {"rule": None, "experiment": None, "comparisons": None, "metric": "class_il", "margin": 0.0, "ratio": None,
              "between": None}  # fmt: skip


def git(where, *arguments):
    done = subprocess.run(["git", "-C", str(where), *arguments], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


def has_rule(commit, claim):
    """Whether the tree of a commit holds the claim as it is decided today."""
    text = git(ROOT, "show", f"{commit}:sparcl_lite/papers/{claim.publication}/claims.toml")
    then = {entry["id"]: entry for entry in tomllib.loads(text).get("claim", [])}.get(claim.id)
    now = json.loads(claim.model_dump_json())
    return then is not None and all(then.get(name, default) == now[name] for name, default in DECIDED_BY.items())


@pytest.mark.skipif(git(ROOT, "rev-parse", "--is-shallow-repository") != "false", reason="not a whole checkout")
def test_every_committed_claim_is_older_than_its_runs_or_says_so():
    listed = judged(Store(ROOT / "results"), profile="lite")
    assert any(entry.commits for entry in listed)
    for entry in listed:
        report, shown = entry.report(), scoreboard([entry]).frame.loc[0, "measured"]
        if not entry.commits:
            assert (report["run_commits"], report["rule_first"]) == (None, None)
            continue
        first = all(not commit.endswith("-dirty") and has_rule(commit, entry.claim) for commit in entry.commits)
        assert report["run_commits"] == [entry.commits[0], entry.commits[-1]]
        assert report["rule_first"] == first
        assert ("rule newer than its runs" in shown) == (not first)
        if report["rule_commit"]:
            assert has_rule(report["rule_commit"], entry.claim)


@pytest.fixture
def history(tmp_path, monkeypatch):
    """A repository of three commits: a rule, the same with other words and a field less, another margin."""
    path = tmp_path / "sparcl_lite" / "papers" / "made_up" / "claims.toml"
    path.parent.mkdir(parents=True)
    git(tmp_path, "init", "--quiet")
    commits = []
    rule = 'rule = "above"\nexperiment = "e"\ncomparisons = [["a", "b"]]\n'
    for more in ('statement = "s"\nscale = "paper"\n', 'statement = "t"\n', 'statement = "t"\nmargin = 0.5\n'):
        path.write_text(f'[[claim]]\nid = "x"\nsource = "t"\n{rule}{more}')
        git(tmp_path, "add", "-A")
        git(tmp_path, "-c", "user.name=a", "-c", "user.email=a@b", "commit", "--quiet", "-m", more[:13])
        commits.append(git(tmp_path, "rev-parse", "HEAD")[:12])
    monkeypatch.setattr(provenance, "ROOT", tmp_path)
    clear()
    yield commits
    clear()


def clear():
    provenance._checkout.cache_clear()
    provenance._rules_at.cache_clear()
    provenance._changes.cache_clear()


def made_up(**changes):
    return Claim(id="x", publication="made_up", statement="s", source="t", rule="above", experiment="e",
                 comparisons=[("a", "b")], **changes)  # fmt: skip


def test_a_rule_is_as_old_as_what_decides_it(history):
    first, reworded, changed = history
    assert rule_commit(made_up(margin=0.5)) == changed
    assert rule_first(made_up(margin=0.5), [changed]) is True
    assert rule_first(made_up(margin=0.5), [changed, reworded]) is False
    assert rule_first(made_up(), [first, reworded]) is True  # other words and a field that decides nothing
    assert rule_commit(made_up()) is None  # it is not the rule of today
    git(provenance.ROOT, "-c", "user.name=a", "-c", "user.email=a@b", "revert", "--no-edit", "HEAD")
    clear()
    assert rule_commit(made_up()) == git(provenance.ROOT, "rev-parse", "HEAD")[:12]  # not since the first: it was away
    git(provenance.ROOT, "reset", "--quiet", "--hard", reworded)
    clear()
    assert rule_commit(made_up()) == first


def test_runs_of_unknown_source_are_not_younger_than_a_rule(history):
    for commit in (f"{history[2]}-dirty", "0123456789ab", "unknown"):
        assert rule_first(made_up(margin=0.5), [history[2], commit]) is False
    assert rule_first(made_up(margin=0.5), []) is None


def test_outside_a_checkout_nothing_is_said(history, monkeypatch):
    monkeypatch.setattr(provenance, "ROOT", provenance.ROOT / "sparcl_lite")  # within another repository
    clear()
    assert rule_commit(made_up(margin=0.5)) is None
    assert rule_first(made_up(margin=0.5), [history[2]]) is None
