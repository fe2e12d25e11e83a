"""Which came first, a claim's rule or its runs: read from the git history of the package's `claims.toml`.

Only a checkout knows; in an installed package, a shallow clone or without git every answer is None.
"""

import json
import subprocess
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

from sparcl_lite.papers.claims import Claim

ROOT = Path(__file__).parents[2]
SHOWN_DIGITS = 12  # of a commit, as in a run's environment
#: Fields that decide a verdict; another wording of a statement or a source changes nothing.
DECIDING = ("rule", "experiment", "comparisons", "metric", "margin", "ratio", "between")


def claims_file(publication: str) -> str:
    """Path of a paper's claims within the repository."""
    return f"sparcl_lite/papers/{publication}/claims.toml"


def rule_commit(claim: Claim) -> str | None:
    """The oldest commit since which what decides the claim has not changed; None while that is not committed."""
    if not (claim.publication and _checkout()):
        return None
    found = None
    for commit in _changes(claim.publication):
        if not _is_in(claim, commit):
            break
        found = commit[:SHOWN_DIGITS]
    return found


def rule_first(claim: Claim, commits: list[str]) -> bool | None:
    """Whether the claim's rule, as it is now, was in the tree of all these commits; None without any.

    False also for a commit that is unknown here, and for one with changes that were not committed.
    """
    if not (commits and claim.publication and _checkout()):
        return None
    return all(_is_in(claim, commit) for commit in commits)


@cache
def _checkout() -> bool:
    """Whether this package lies in a git checkout of its own, with its whole history."""
    top = _git("rev-parse", "--show-toplevel").strip()
    return bool(top) and Path(top) == ROOT.resolve() and _git("rev-parse", "--is-shallow-repository").strip() == "false"


@cache
def _changes(publication: str) -> list[str]:
    """The commits that changed a paper's claims, the newest first."""
    return _git("log", "--format=%H", "--", claims_file(publication)).split()


def _is_in(claim: Claim, commit: str) -> bool:
    return _rules_at(claim.publication, commit).get(claim.id) == _deciding(claim.model_dump(mode="json"))


@cache
def _rules_at(publication: str, commit: str) -> dict[str, str]:
    """What decides each claim, by id, in the tree of a commit; empty where there is none such."""
    if commit.endswith("-dirty"):
        return {}
    text = _git("show", f"{commit}:{claims_file(publication)}")
    return {entry["id"]: _deciding(entry) for entry in tomllib.loads(text).get("claim", [])}


def _deciding(entry: dict[str, Any]) -> str:
    """The deciding fields of a claim as text, what is left out with its default."""
    defaults = {name: field.get_default() for name, field in Claim.model_fields.items()}
    return json.dumps([entry.get(name, defaults[name]) for name in DECIDING])


def _git(*arguments: str) -> str:
    """What git prints; empty where it fails or is not installed."""
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout if done.returncode == 0 else ""
