"""Commands that look after data sets and the run store."""

from pathlib import Path
from typing import Annotated

import typer

from sparcl_lite.cli.options import StorePath, shown
from sparcl_lite.errors import KitError

data_app = typer.Typer(help="Fetch and verify data sets.\n\nExample: sparcl-lite data fetch cifar10")
store_app = typer.Typer(help="List, verify and prune a run store.\n\nExample: sparcl-lite store list")


@data_app.command("fetch")
def data_fetch(name: Annotated[str, typer.Argument(help="cifar10, cifar100, tiny-imagenet, ...")]) -> None:
    """Download a data set into the data folder ($SPARCL_LITE_DATA).

    Example: sparcl-lite data fetch cifar10
    """
    from sparcl_lite.data.sources import fetch

    print(fetch(_known_dataset(name)))


@data_app.command("verify")
def data_verify(
    names: Annotated[list[str] | None, typer.Argument(help="all when left out")] = None,
) -> None:
    """Say which data sets are there and whole.

    Example: sparcl-lite data verify digits
    """
    from sparcl_lite.data.sources import verify
    from sparcl_lite.registry import DATASETS

    for name in names or DATASETS:
        try:
            print(verify(_known_dataset(name)))
        except KitError as error:
            if names:
                raise
            print(error)


@store_app.command("list")
def store_list(store: StorePath = Path("build/store")) -> None:
    """One line per finished run.

    Example: sparcl-lite store list --store results
    """
    from sparcl_lite.runs.run import label

    trained, clustered, analysed = _stores(store)
    for result in trained.results():
        accuracy = f"Class-IL {shown(result.class_il, '%')}, Task-IL {shown(result.task_il, '%')}"
        print(f"{result.config.key}  {label(result.config)}, seed {result.config.seed}: {accuracy}")
    for result in clustered.results():
        what = f"{result.config.method}, {result.config.dataset}, seed {result.config.seed}"
        print(f"{result.config.key}  {what}: accuracy {100 * result.final.accuracy:.2f} %")
    for result in analysed.results():
        print(f"{result.config.key}  analysis of blocks, {result.config.dataset}, seed {result.config.seed}")


@store_app.command("verify")
def store_verify(store: StorePath = Path("build/store")) -> None:
    """Check every file; damaged ones are set aside.

    Example: sparcl-lite store verify --store results
    """
    stores = _stores(store)
    if problems := [problem for each in stores for problem in each.verify()]:
        raise KitError("; ".join(problems))
    print(f"{store}: {sum(len(list(each.root.glob('*.json'))) for each in stores)} sound runs")


@store_app.command("prune")
def store_prune(store: StorePath = Path("build/store")) -> None:
    """Delete checkpoints, locks and damaged files, but no result.

    Example: sparcl-lite store prune
    """
    print(f"{sum(each.prune() for each in _stores(store)) / 2**20:.1f} MiB freed")


def _stores(path: Path) -> tuple:
    """The store of training runs in a folder, and those of the clusterings and analyses beside them."""
    from sparcl_lite.clustering.runs import beside as clusterings
    from sparcl_lite.papers.lightcl.generalizability import beside as analyses
    from sparcl_lite.runs.store import Store

    trained = Store(path)
    others = clusterings(trained), analyses(trained)
    if path.name in {other.root.name for other in others}:  # its results would all count as damaged
        raise KitError(f"store = {path}: belongs to a store of runs; allowed: the folder it is in, {path.parent}")
    return trained, *others


def _known_dataset(name: str) -> str:
    from sparcl_lite.registry import DATASETS

    if name not in DATASETS:
        raise KitError(f"dataset = {name!r}: unknown; allowed: {', '.join(DATASETS)}")
    return name
