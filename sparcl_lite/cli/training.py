"""Commands that train, or say what training costs: run, sweep, flops."""

import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from sparcl_lite.cli.options import (
    BufferSize,
    Dataset,
    Json,
    Method,
    Profile,
    Scheduler,
    Seeds,
    Set,
    Sparse,
    Sparsity,
    StorePath,
    Variant,
    config_of,
    experiment_named,
    fields_from,
)
from sparcl_lite.errors import KitError
from sparcl_lite.runs.job import headline, shown

app = typer.Typer()


@app.command()
def run(
    profile: Profile = "lite",
    dataset: Dataset = None,
    method: Method = None,
    sparse: Sparse = None,
    sparsity: Sparsity = None,
    buffer_size: BufferSize = None,
    variant: Variant = "paper",
    seed: Annotated[int, typer.Option(min=0, help="of everything random in the run")] = 0,
    set_: Set = None,
    store: StorePath = Path("build/store"),
    device: Annotated[str, typer.Option(help="auto, cpu or cuda")] = "auto",
    threads: Annotated[int, typer.Option(min=1, help="of the processor")] = 1,
    as_json: Json = False,
) -> None:
    """One run, from the store when it is there: training on a stream of tasks, or one clustering.

    Example: sparcl-lite run --method der++ --sparse sparcl --sparsity 0.9 --buffer-size 200 --seed 0
    """
    from sparcl_lite.config.base import LOOKED_UP
    from sparcl_lite.runs.job import job_of
    from sparcl_lite.runs.run import run as run_job
    from sparcl_lite.runs.store import Store

    given = fields_from(profile, dataset, method, sparse, sparsity, buffer_size, variant, set_, seed=seed)
    config = config_of(given, **{LOOKED_UP: True})
    job = job_of(config, device=device, threads=threads)
    result = Store(store).get(config)
    if result is None:
        job = job_of(config_of(given), device=device, threads=threads)
        result = run_job(job, store=store, progress=True)
    if as_json:
        print(result.model_dump_json(indent=1))
        return
    print(headline(job, result))
    if job.kind == "training":
        print(f"forgetting {shown(result.forgetting)} points; FLOPs by the paper's convention {result.flops.paper:.3g}")
    print(f"kept as {config.key} in {store}, finished {result.finished}")


@app.command()
def sweep(
    experiments: Annotated[list[str], typer.Argument(help="sparcl_table1, ksparse_tables, bench, ...")],
    profile: Profile = "lite",
    dataset: Dataset = None,
    seeds: Seeds = 10,
    store: StorePath = Path("build/store"),
    scheduler: Scheduler = None,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="stop at the first end of an epoch after so many; the next call goes on")
    ] = None,
    large: Annotated[bool, typer.Option("--large", help="also the sizes that take minutes and gigabytes")] = False,
    rows: Annotated[
        list[str] | None, typer.Option("--rows", help="only these, by id or pattern: 'sparcl-*-500'; repeatable")
    ] = None,
    deciding: Annotated[bool, typer.Option("--deciding", help="only rows whose runs decide a claim")] = False,
) -> None:
    """Compute every run of an experiment that the store lacks. What is timed runs here, one after the other.

    Example: sparcl-lite sweep sparcl_table1 --seeds 5 --minutes 30
    """
    from sparcl_lite.papers import registry
    from sparcl_lite.runs.forecast import forecast
    from sparcl_lite.runs.store import Store
    from sparcl_lite.runs.sweep import sweep as sweep_jobs

    chosen = [experiment_named(name, profile, dataset) for name in experiments]
    if deciding:
        chosen = [experiment.narrowed(registry.deciding(experiment)) for experiment in chosen]
    if rows:
        chosen = [_with_rows(experiment, rows) for experiment in chosen]
    jobs = [job for experiment in chosen for job in experiment.jobs(seeds=seeds, large=large)]
    print(forecast(jobs, Store(store)), file=sys.stderr)
    for experiment in chosen:
        for line in experiment.left_out(experiment.stored(seeds=1, store=Store(store))):
            print(line, file=sys.stderr)
    results = sweep_jobs(jobs, store=Store(store), scheduler=scheduler, minutes=minutes)
    found = {job.id: result is not None for job, result in zip(jobs, results, strict=True)}
    print(f"{sum(found.values())} runs in {store}" + (f" of {len(found)}" if not all(found.values()) else ""))


def _with_rows(experiment: Any, patterns: list[str]) -> Any:
    narrowed = experiment.narrowed(patterns)
    if not narrowed.rows:
        allowed = ", ".join(row.id for row in experiment.rows)
        raise KitError(f"rows = {' '.join(patterns)}: none of {experiment.name} fits; allowed: {allowed}")
    return narrowed


@app.command()
def flops(
    profile: Profile = "paper",
    dataset: Dataset = None,
    method: Method = None,
    sparse: Sparse = None,
    sparsity: Sparsity = None,
    buffer_size: BufferSize = None,
    variant: Variant = "paper",
    set_: Set = None,
    as_json: Json = False,
) -> None:
    """Training FLOPs of a configuration, from its schedule: the paper's convention and an honest count.

    Example: sparcl-lite flops --dataset cifar10 --method der++ --sparse sparcl --sparsity 0.75 --profile paper
    """
    from sparcl_lite.config import RunConfig
    from sparcl_lite.measure.flops import paper_flops
    from sparcl_lite.planning import planned

    config = RunConfig(**fields_from(profile, dataset, method, sparse, sparsity, buffer_size, variant, set_))
    ledger = planned(config).ledger
    values = {"paper": paper_flops(config), "honest": ledger.total, "by_part": ledger.by_part()}
    if as_json:
        print(json.dumps(values, indent=1))
        return
    for name, value in (values | ledger.by_part()).items():
        if name != "by_part":
            print(f"{name:16} {value:.4g}")
