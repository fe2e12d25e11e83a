"""Commands that look at finished runs: show, compare, export."""

from pathlib import Path
from typing import Annotated, Any

import typer

from sparcl_lite.cli.options import (
    Dataset,
    Json,
    Profile,
    Seeds,
    StorePath,
    experiment_named,
    store_with_evidence,
)
from sparcl_lite.errors import KitError
from sparcl_lite.runs.job import headline, shown

app = typer.Typer()

Key = Annotated[str, typer.Argument(help="of a run, or how it begins: see sparcl-lite store list")]


@app.command()
def show(key: Key, store: StorePath = Path("build/store"), as_json: Json = False) -> None:
    """One finished run: what it is, what came out, where and when.

    Example: sparcl-lite show 0a1b2c3d
    """
    from sparcl_lite.runs.job import job_of

    result, origin = _found(key, store)
    if as_json:
        print(result.model_dump_json(indent=1))
        return
    print(f"{headline(job_of(result.config), result)}\n{result.config.key}: {origin}")
    for title, fields in (("configuration", _fields(result)), ("environment", getattr(result, "environment", {}))):
        print(f"{title}:")
        for name, value in fields.items():
            print(f"  {name:24} {value}")


@app.command()
def compare(first: Key, second: Key, store: StorePath = Path("build/store")) -> None:
    """Two finished runs side by side: fields that differ, and what came out.

    Example: sparcl-lite compare 0a1b2c3d 4e5f6a7b
    """
    from sparcl_lite.runs.job import job_of

    results = [_found(key, store)[0] for key in (first, second)]
    jobs = [job_of(result.config) for result in results]
    fields = [_fields(result) for result in results]
    numbers = [job.headline(result) for job, result in zip(jobs, results, strict=True)]
    print(f"{'':24} {jobs[0].config.key:24} {jobs[1].config.key}")
    for name in dict.fromkeys([*fields[0], *fields[1]]):
        a, b = (str(each.get(name, "-")) for each in fields)
        if a != b:
            print(f"{name:24} {a:24} {b}")
    for name in dict.fromkeys([*numbers[0], *numbers[1]]):
        a, b = (each.get(name) for each in numbers)
        change = f"{b - a:+.2f}" if None not in (a, b) and abs(b - a) < 1e5 else ""
        print(f"{name:24} {shown(a):24} {shown(b):12} {change}".rstrip())


@app.command()
def export(
    experiments: Annotated[list[str], typer.Argument(help="sparcl_table1, ksparse_tables, bench, ...")],
    csv: Annotated[Path, typer.Option("--csv", help="the file to write")],
    profile: Profile = "lite",
    dataset: Dataset = None,
    seeds: Seeds = 10,
    store: StorePath = Path("build/store"),
) -> None:
    """The stored runs of experiments as a CSV file: one line a run, with its row, seed, numbers and key.

    Example: sparcl-lite export sparcl_table1 --csv table1.csv
    """
    import pandas as pd

    chosen = [experiment_named(name, profile, dataset) for name in experiments]
    frames = {each.name: each.stored(seeds=seeds, store=store_with_evidence(store)) for each in chosen}
    for name, frame in frames.items():
        if frame.empty:
            raise KitError(f"{name}: no run of it in {store}; make them with: sparcl-lite sweep {name}")
        frame.insert(0, "experiment", name)
    whole = pd.concat(frames.values(), ignore_index=True)
    try:
        whole.to_csv(csv, index=False)
    except OSError as error:
        raise KitError(f"csv = {csv}: cannot be written ({error.strerror})") from None
    print(f"{csv}: {len(whole)} runs")


def _found(key: str, path: Path) -> tuple[Any, str]:
    """The run whose key begins so, and where it is from. Raises `KitError` where there is none, or several."""
    store = store_with_evidence(path)
    found = {result.config.key: result for result in store.beginning(key)}
    if len(found) != 1:
        what = f"begins {len(found)} runs: {', '.join(list(found)[:5])}" if found else f"no run of {store} begins so"
        raise KitError(f"key = {key!r}: {what}; see sparcl-lite store list")
    (result,) = found.values()
    where = "committed" if store.committed(result.config) else f"made here, in {path}"
    return result, f"{where}, {getattr(result, 'finished', 'no date')}"


def _fields(result: Any) -> dict[str, Any]:
    """Fields of a configuration that are set, nested ones as `sparse.sparsity`."""
    fields = {}
    for name, value in result.config.model_dump(mode="json", exclude_none=True).items():
        nested = value if isinstance(value, dict) else None
        fields |= {name: value} if nested is None else {f"{name}.{part}": each for part, each in nested.items()}
    return fields
