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
    from sparcl_lite.data.specs import SPECS

    for name in names or SPECS:
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
    from sparcl_lite.runs import label
    from sparcl_lite.store import Store

    for result in Store(store).results():
        accuracy = f"Class-IL {shown(result.class_il, '%')}, Task-IL {shown(result.task_il, '%')}"
        print(f"{result.config.key}  {label(result.config)}, seed {result.config.seed}: {accuracy}")


@store_app.command("verify")
def store_verify(store: StorePath = Path("build/store")) -> None:
    """Check every file; damaged ones are set aside.

    Example: sparcl-lite store verify --store results
    """
    from sparcl_lite.store import Store

    problems = Store(store).verify()
    if problems:
        raise KitError("; ".join(problems))
    print(f"{store}: {len(list(store.glob('*.json')))} sound runs")


@store_app.command("prune")
def store_prune(store: StorePath = Path("build/store")) -> None:
    """Delete checkpoints, locks and damaged files, but no result.

    Example: sparcl-lite store prune
    """
    from sparcl_lite.store import Store

    print(f"{Store(store).prune() / 2**20:.1f} MiB freed")


def _known_dataset(name: str) -> str:
    from sparcl_lite.data.specs import SPECS

    if name not in SPECS:
        raise KitError(f"dataset = {name!r}: unknown; allowed: {', '.join(SPECS)}")
    return name
