"""The command that makes the clusterings of K-sparse's experiments."""

from pathlib import Path
from typing import Annotated

import typer

from sparcl_lite.cli.options import Profile, Seeds, StorePath
from sparcl_lite.errors import KitError

app = typer.Typer()


@app.command()
def cluster(
    experiments: Annotated[list[str], typer.Argument(help="ksparse_tables, ksparse_genes, ...")],
    profile: Profile = "lite",
    seeds: Seeds = 5,
    store: StorePath = Path("build/store"),
    large: Annotated[bool, typer.Option("--large", help="also the sizes that take minutes and gigabytes")] = False,
) -> None:
    """Make every clustering of a K-sparse experiment that the store lacks.

    Example: sparcl-lite cluster ksparse_tables ksparse_ablation --seeds 5
    """
    from sparcl_lite.papers.ksparse.experiments import EXPERIMENTS
    from sparcl_lite.runs.store import Store

    for name in experiments:
        if name not in EXPERIMENTS:
            raise KitError(f"experiment = {name!r}: unknown; allowed: {', '.join(EXPERIMENTS)}")
    made = [
        EXPERIMENTS[name](profile=profile).run(seeds=seeds, store=Store(store), large=large) for name in experiments
    ]
    print(f"{sum(map(len, made))} clusterings in {store / 'clustering'}")
