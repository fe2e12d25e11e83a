"""Commands that look after data sets and the run store."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from sparcl_lite.cli.options import StorePath
from sparcl_lite.errors import KitError
from sparcl_lite.paths import folder

data_app = typer.Typer(help="Fetch and verify data sets.\n\nExample: sparcl-lite data fetch cifar10")
names_app = typer.Typer()
store_app = typer.Typer(help="List, verify, prune, pack and export a run store.\n\nExample: sparcl-lite store list")

APPS = (data_app, names_app, store_app)


@names_app.command()
def names() -> None:
    """Every name that a run or a clustering may use, with its label: built-in and registered.

    Example: sparcl-lite names --plugin my_ideas.py
    """
    from sparcl_lite import registry

    for title, names in (
        ("data sets", registry.DATASETS), ("networks", registry.NETWORKS), ("methods", registry.METHODS),
        ("kinds of sparse training", registry.STRATEGIES), ("clusterers", registry.CLUSTERERS),
    ):  # fmt: skip
        print(f"{title}:")
        for name in names:
            entry = names.entry(name)
            label = entry.label if entry.label != name else ""
            print(f"  {name:20} {label}{' (registered)' * bool(entry.identity)}".rstrip())


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
    from sparcl_lite.runs.listing import listed
    from sparcl_lite.runs.store import Store

    sys.stdout.writelines(f"{line}\n" for line in listed(Store(store)))


@store_app.command("verify")
def store_verify(store: StorePath = Path("build/store")) -> None:
    """Check every result; damaged files are set aside.

    Example: sparcl-lite store verify --store results
    """
    from sparcl_lite.runs.store import Store

    if problems := Store(store).verify():
        raise KitError("; ".join(problems))
    print(f"{store}: {sum(1 for _ in Store(store).results())} sound runs")


@store_app.command("prune")
def store_prune(store: StorePath = Path("build/store")) -> None:
    """Delete checkpoints, locks and damaged files, but no result.

    Example: sparcl-lite store prune
    """
    from sparcl_lite.runs.store import Store

    print(f"{Store(store).prune() / 2**20:.1f} MiB freed")


@store_app.command("pack")
def store_pack(store: StorePath = Path("build/store")) -> None:
    """Move all results into one file of the store, packed/runs.jsonl, in which every command finds them.

    Example: sparcl-lite store pack
    """
    from sparcl_lite.runs.store import Store

    print(f"{store}: {Store(store).pack()} runs packed")


@store_app.command("export")
def store_export(
    to: Annotated[Path, typer.Option(help="folder of evidence, as results/", callback=folder)],
    store: StorePath = Path("build/store"),
) -> None:
    """Add every finished run to files of one line a run, TO/EXPERIMENT/runs.jsonl; a line of the same run is replaced.

    Example: sparcl-lite store export --store build/store --to results
    """
    from sparcl_lite.papers.registry import export
    from sparcl_lite.runs.store import Store

    for name, count in export(Store(store), to).items():
        print(f"{to / name / 'runs.jsonl'}: {count} runs")


def _known_dataset(name: str) -> str:
    from sparcl_lite.registry import DATASETS

    if name not in DATASETS:
        raise KitError(f"dataset = {name!r}: unknown; allowed: {', '.join(DATASETS)}")
    return name
