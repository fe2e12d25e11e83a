"""Commands that show what came out: table, claims, reproduce, render."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from sparcl_lite.cli.options import (
    Dataset,
    Json,
    Output,
    Profile,
    Scheduler,
    Seeds,
    StorePath,
    assignments,
    experiment_named,
    store_with_evidence,
)
from sparcl_lite.errors import KitError

app = typer.Typer()


@app.command()
def table(
    name: Annotated[str, typer.Argument(help="sparcl_table1, ksparse_tables, ...")],
    profile: Profile = "lite",
    dataset: Dataset = None,
    seeds: Seeds = 10,
    store: StorePath = Path("build/store"),
    markdown: Annotated[bool, typer.Option("--markdown", help="as a GitHub table")] = False,
    as_json: Json = False,
) -> None:
    """A paper's table beside ours, or an experiment's own, from the stored runs (it trains nothing).

    Example: sparcl-lite table sparcl_table1 --markdown
    """
    from sparcl_lite.report.experiments import table_of

    experiment = experiment_named(name, profile, dataset)
    frame = experiment.stored(seeds=seeds, store=store_with_evidence(store))
    if frame.empty:
        raise KitError(f"{name}: no run of it in {store}; make them with: sparcl-lite sweep {name}")
    shown = table_of(experiment, frame)
    if as_json:
        print(shown.frame.to_json(orient="records", indent=1))
    else:
        print(shown.to_markdown() if markdown else shown)
    if without := [row.id for row in experiment.rows if row.id not in set(frame["row"])]:
        print(f"{len(without)} of {len(experiment.rows)} rows have no run yet: {', '.join(without)}", file=sys.stderr)


@app.command()
def claims(
    profile: Profile = "lite",
    dataset: Dataset = None,
    seeds: Seeds = 10,
    store: StorePath = Path("build/store"),
    as_json: Json = False,
) -> None:
    """The papers' claims with verdicts, from the stored runs (it trains nothing).

    Example: sparcl-lite claims --json
    """
    from rich.console import Console

    from sparcl_lite.papers.registry import judged as judged_claims

    waiting = "judging the claims; the first time takes half a minute"
    with Console(stderr=True).status(waiting):
        judged = judged_claims(store_with_evidence(store), profile=profile, dataset=dataset or "", seeds=seeds)
    if as_json:
        print(json.dumps([entry.report() for entry in judged], indent=1))
        return
    _print_scoreboard(judged)


@app.command()
def reproduce(
    notebooks: Annotated[
        list[str] | None, typer.Argument(help="names, or all; all but the long ones when left out")
    ] = None,
    profile: Profile = "lite",
    seeds: Seeds = 1,
    scheduler: Scheduler = None,
    output: Output = Path("build"),
    parameter: Annotated[
        list[str] | None, typer.Option("--parameter", "-p", help="a notebook's parameter: NAME=VALUE; repeatable")
    ] = None,
) -> None:
    """Train, run every notebook headless, write report/index.html and figures/, print the scoreboard of claims.

    The report is there after the first notebook, and grows with each. A notebook whose runs failed does not stop the
    others; it is named at the end. The last line says how many cells agree with the committed runs of the same seed.

    Example: sparcl-lite reproduce quickstart --profile smoke
    """
    from sparcl_lite.notebook import notebooks_folder
    from sparcl_lite.papers.registry import judged as judged_claims
    from sparcl_lite.report import agreement, execution, site
    from sparcl_lite.report.notebooks import select
    from sparcl_lite.report.tables import verdict_line
    from sparcl_lite.runs.store import Store

    output = output.absolute()
    store = Store(output / "store")
    chosen = select(notebooks or [])
    store.check_usable(needed_bytes=2**26)
    values = {
        "profile": profile,
        "seeds": seeds,
        "scheduler": scheduler or "",
        "store": str(store.root),
        "evidence": "",
        "figures": str(output / "figures"),
    }
    given = assignments(parameter)
    how = f"Profile {profile}, up to {seeds} seed(s) a row; no run is from the committed results."
    failed: list[str] = []
    for done in execution.reproduce(chosen, output / "notebooks", values, given, failed):
        site.build(output, site.Here(f"{how} So far {done} of {len(chosen)} notebooks."))
    profile, dataset, seeds = (given.get(name, values.get(name)) for name in ("profile", "dataset", "seeds"))
    results = notebooks_folder().parent / "results"
    measured = Store(results, store.root)  # here, and else as committed
    judged = judged_claims(store, profile=profile, dataset=dataset or "", seeds=seeds, measured=measured)
    cells = agreement.compare(Store(store.root, results), profile=profile, dataset=dataset or "")
    how += " Time and memory are as committed, where `sparcl-lite sweep bench` did not measure them here."
    index = site.build(output, site.Here(how, judged, cells, profile))
    agreement.write(cells, output / "report" / "agreement.json")
    _print_scoreboard(judged)
    print(f"on CIFAR-10, by the committed runs (profile desk): {verdict_line(site.committed(results.parent)['desk'])}")
    print(f"report: {index}\nfigures: {output / 'figures'}\n{agreement.summary(cells)}")
    if failed:
        raise KitError(f"{len(failed)} of {len(chosen)} notebooks lack runs: {'; '.join(failed)}")


@app.command()
def docs(output: Output = Path("build")) -> None:
    """Write the documentation, with every notebook and the scoreboard, to report/index.html; it trains nothing.

    Example: sparcl-lite docs
    """
    from sparcl_lite.report import site

    print(f"documentation: {site.build(output.absolute())}")


@app.command()
def render(notebooks: Annotated[list[str] | None, typer.Argument(help="names; all when left out")] = None) -> None:
    """Re-render the committed notebooks, figures/ and the tables of README.md and docs/ from the committed results/.

    Example: sparcl-lite render sparcl_table1
    """
    from sparcl_lite.report import execution
    from sparcl_lite.report.notebooks import select

    execution.render(select(notebooks or ["all"]))


def _print_scoreboard(judged: list) -> None:
    from rich.console import Console
    from rich.table import Table as RichTable

    from sparcl_lite.report.tables import scoreboard, verdict_line

    shown = scoreboard(judged).frame
    grid = RichTable(*shown.columns, title="Claims", show_lines=True)
    for row in shown.itertuples(index=False):
        grid.add_row(*map(str, row))
    Console(width=None if sys.stdout.isatty() else 150).print(grid)
    print(verdict_line(judged))
