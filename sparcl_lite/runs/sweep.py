"""Many runs at once on Dask: a local cluster by default, any scheduler by address."""

import logging
import sys
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import dask
from dask.distributed import Client, LocalCluster, as_completed
from dask.system import CPU_COUNT
from tqdm import tqdm

from sparcl_lite.config import RunConfig
from sparcl_lite.errors import KitError
from sparcl_lite.measure.flops import paper_flops
from sparcl_lite.registry import Entry, adopt, registered_for
from sparcl_lite.runs.result import RunResult
from sparcl_lite.runs.run import default_store, label, run
from sparcl_lite.runs.store import DamagedResult, Store

#: A training step allocates and frees the same few megabytes again and again. Dask's default tells glibc to hand
#: them back to the kernel each time, and the page faults cost up to 40 % of a small network's step.
WORKER_ENVIRONMENT = {
    "MALLOC_TRIM_THRESHOLD_": str(2**31 - 1),
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_ARENA_MAX": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}


CONNECT_SECONDS = 10  # after which a scheduler that has not answered is given up


class SweepError(KitError):
    """Some runs failed; the others finished and are in the store."""


def sweep(
    configs: Iterable[RunConfig],
    *,
    store: Store | Path | str | None = None,
    scheduler: str | None = None,
    workers: int | None = None,
    progress: bool = True,
) -> list[RunResult]:
    """Results of all configurations, in order; those not in the store are trained, one thread per worker.

    `scheduler` is the address of a running Dask scheduler, whose workers may be on other machines: results come back
    to this process and are kept in its store. A run whose worker dies is tried again from its last checkpoint.
    Raises `SweepError` when some runs failed for good, after the others have finished.
    """
    configs = list(configs)
    store = store if isinstance(store, Store) else Store(store or default_store())
    found = {c.key: find(store, c) for c in configs}
    missing = list({c.key: c for c in configs if found[c.key] is None}.values())
    failures: list[str] = []
    if len(missing) == 1 and not scheduler:
        try:
            found[missing[0].key] = run(missing[0], store=store, progress=progress)
        except KitError as error:
            failures.append(_failure(missing[0], str(error)))
    elif missing:
        store.check_usable(needed_bytes=len(missing) * 2**16)
        with _client(scheduler, workers or min(CPU_COUNT, len(missing))) as client:
            for config, outcome in _finished(client, missing, store, progress):
                if isinstance(outcome, RunResult):
                    found[config.key] = outcome
                else:
                    failures.append(_failure(config, outcome))
    if failures:
        raise SweepError(f"{len(failures)} of {len(missing)} runs failed: {'; '.join(failures)}")
    return [found[c.key] for c in configs]


def _failure(config: RunConfig, reason: str) -> str:
    return f"{label(config)}, seed {config.seed} ({config.key}): {reason}"


def find(store: Store, config: RunConfig) -> RunResult | None:
    """The stored result, or None; a damaged one is reported by a warning and set aside."""
    try:
        return store.get(config)
    except DamagedResult as error:
        warnings.warn(str(error), stacklevel=3)
        return None


def _work(config: dict, root: str, registered: list[tuple[str, Entry]]) -> str:
    """What a worker does; plain values in and out, so that versions of this package may differ a little.

    `registered` is what the run needs of what a user registered in the process that asks.

    A worker that cannot write to `root`, because it is on another machine, uses its own default store.
    """
    adopt(registered)
    store = Store(root)
    try:
        store.check_usable(needed_bytes=0)
    except KitError:
        store = Store(default_store())
    return run(RunConfig.model_validate(config), store=store).model_dump_json()


def _finished(
    client: Client, configs: list[RunConfig], store: Store, progress: bool
) -> Iterator[tuple[RunConfig, RunResult | str]]:
    """Each run with its result, or with the reason why there is none, as they finish; costly runs start first."""
    costs = {c.key: paper_flops(c) for c in configs}  # for the estimate
    root = str(store.root.absolute())
    futures = {
        client.submit(_work, c.model_dump(), root, registered_for(c), key=f"run-{c.key}", pure=False): c
        for c in sorted(configs, key=lambda c: -costs[c.key])
    }
    form = "{desc}: {percentage:3.0f}%|{bar}| {elapsed} elapsed, about {remaining} left"
    with tqdm(
        total=sum(costs.values()), desc=f"0/{len(configs)} runs", disable=not progress, bar_format=form, smoothing=0
    ) as bar:
        for done, future in enumerate(as_completed(futures), start=1):
            config = futures[future]
            yield config, _outcome(future, store)
            bar.set_description_str(f"{done}/{len(configs)} runs", refresh=False)
            bar.update(costs[config.key])


def _outcome(future, store: Store) -> RunResult | str:
    try:
        result = RunResult.model_validate_json(future.result())
    except Exception as error:  # whatever a worker raised, or the loss of the worker itself
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    if not (store.root / f"{result.config.key}.json").exists():
        store.put(result)
    return result


@contextmanager
def _client(scheduler: str | None, workers: int) -> Iterator[Client]:
    if scheduler:
        try:
            client = Client(scheduler, timeout=CONNECT_SECONDS)
        except (OSError, TimeoutError, ValueError) as error:
            raise KitError(f"scheduler = {scheduler!r}: no Dask scheduler answers there ({error})") from None
        with client:
            yield client
        return
    with _script_hidden():
        with dask.config.set({"distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT}):
            cluster = LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                memory_limit=0,
                dashboard_address="127.0.0.1:0",  # None would take a fixed port, and warn when it is taken
                silence_logs=logging.CRITICAL,
            )
        try:
            with Client(cluster) as client:
                yield client
        finally:
            with suppress(Exception):  # a worker that died during shutdown is no failure of the runs
                cluster.close()


@contextmanager
def _script_hidden() -> Iterator[None]:
    """Processes that start inside do not execute the user's script first, as those of `multiprocessing` do.

    Workers need nothing of it; without `if __name__ == "__main__"` in it, each of them would begin the sweep again.
    """
    main = sys.modules["__main__"]
    kept = {name: value for name in ("__spec__", "__file__") if (value := getattr(main, name, None)) is not None}
    vars(main).update(dict.fromkeys(kept))
    try:
        yield
    finally:
        vars(main).update(kept)
