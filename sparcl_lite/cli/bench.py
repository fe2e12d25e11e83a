"""Benchmarks on this machine: bench overhead, step, sweep, train, memory, kernels, parts, lightcl."""

import json
from typing import Annotated, Any

import typer

from sparcl_lite.cli.options import Json
from sparcl_lite.errors import KitError

app = typer.Typer(help="Time training on this machine.\n\nExample: sparcl-lite bench step --sparsity 0.95")

Threads = Annotated[int, typer.Option(min=1, help="of the processor")]
Level = Annotated[float, typer.Option(min=0, max=0.999, help="share of zero weights")]
Width = Annotated[int, typer.Option(min=8, help="channels of the first stage")]
Image = Annotated[int, typer.Option(min=8, help="rows and columns of an image")]
Batch = Annotated[int, typer.Option(min=2, help="images a step")]
Network = Annotated[str, typer.Option(help="resnet18 or small")]
Rounds = Annotated[int, typer.Option(min=1, help="alternating rounds")]


@app.command()
def overhead(
    profile: Annotated[list[str] | None, typer.Option(help="whose network: lite, paper; both when left out")] = None,
    sparsity: Annotated[float, typer.Option(help="of the sparse step")] = 0.9,
    threads: Threads = 2,
    repeats: Annotated[int, typer.Option(min=5, help="epochs that are timed")] = 5,
    as_json: Json = False,
) -> None:
    """How much of a DER++ step is neither forward nor backward.

    Example: sparcl-lite bench overhead --profile lite
    """
    from sparcl_lite.bench.overhead import overhead as measure

    steps = {"smoke": 20, "lite": 16, "paper": 4}
    reports = {}
    names = profile or ["lite", "paper"]
    for name in names:
        _check_profile(name)
    for name in names:
        for kind, level in (("dense", None), ("sparse", sparsity)):
            report = measure(profile=name, sparsity=level, threads=threads, steps=steps[name], repeats=repeats)
            reports[f"{name}, {kind}"] = report
            if not as_json:
                parts = ", ".join(
                    f"{part} {report[part]:.1f}" for part in ("forward", "backward", "update", "overhead")
                )
                print(
                    f"{name}, {kind}: {report['total']:.1f} ms a step ({parts}): {100 * report['share']:.1f} % overhead"
                )
    if as_json:
        print(json.dumps(reports, indent=1))


@app.command()
def step(
    network: Network = "resnet18",
    width: Width = 64,
    image: Image = 32,
    batch: Batch = 32,
    sparsity: Level = 0.95,
    threads: Threads = 2,
    repeats: Rounds = 7,
    compiled: Annotated[bool, typer.Option(help="also a dense step through torch.compile")] = False,
    as_json: Json = False,
) -> None:
    """One training step: dense in both layouts, masked, and on the sparse engine, in alternating runs.

    Example: sparcl-lite bench step --width 64 --image 32 --batch 32 --sparsity 0.95 --threads 2 --json
    """
    _check_network(network)
    _needs_numba()
    from sparcl_lite.bench.step import step as measure
    from sparcl_lite.bench.workload import Workload

    report = measure(Workload(network, width, image, batch, sparsity, threads), repeats=repeats, compiled=compiled)
    _print(report, as_json, (
        f"dense {report['dense_ms']:.1f} ms ({report['dense_layout']}), masked {report['masked_ms']:.1f} ms, "
        f"sparse {report['sparse_ms']:.1f} ms: {report['speedup']:.2f}x; auto {report['auto_speedup']:.2f}x"
    ))  # fmt: skip


@app.command()
def sweep(
    network: Network = "resnet18",
    width: Width = 64,
    image: Image = 32,
    batch: Batch = 32,
    threads: Threads = 2,
    repeats: Rounds = 5,
    as_json: Json = False,
) -> None:
    """The step at sparsities from 0.5 to 0.99, all in the same alternating rounds.

    Example: sparcl-lite bench sweep --width 16 --threads 2
    """
    _check_network(network)
    _needs_numba()
    from sparcl_lite.bench.sweep import sweep as measure
    from sparcl_lite.bench.workload import Workload

    report = measure(Workload(network, width, image, batch, threads=threads), repeats=repeats)
    found = ", ".join(f"{level}: {ratio:.2f}x" for level, ratio in report["speedup"].items())
    _print(report, as_json, f"dense {report['dense_ms']:.1f} ms ({report['dense_layout']}); {found}")


@app.command()
def train(
    profile: Annotated[str, typer.Option(help="smoke, lite or paper")] = "lite",
    sparsity: Annotated[
        list[float] | None, typer.Option(min=0, max=0.999, help="repeatable; 0.95 when left out")
    ] = None,
    threads: Threads = 2,
    repeats: Rounds = 3,
    steps: Annotated[int, typer.Option(min=0, help="of an epoch; 0: the profile's own")] = 0,
    epochs: Annotated[int, typer.Option(min=0, help="of a task; 0: the profile's own")] = 0,
    tasks: Annotated[int, typer.Option(min=0, help="0: the profile's own")] = 0,
    as_json: Json = False,
) -> None:
    """Whole runs of DER++ and SparCL-DER++ (TDM, DDR, DGM), for the same number of epochs.

    Example: sparcl-lite bench train --profile lite --sparsity 0.9 --sparsity 0.95 --threads 2
    """
    _check_profile(profile)
    _needs_numba()
    from sparcl_lite.bench.train import train as measure

    more = {name: value for name, value in (("epochs", epochs), ("tasks", tasks)) if value}
    levels = sparsity or [0.95]
    report = measure(profile=profile, sparsities=levels, threads=threads, repeats=repeats, steps=steps, **more)
    lines = [f"DER++ {report['dense_seconds']:.1f} s"]
    for level, seconds in report["sparse_seconds"].items():
        lines.append(f"SparCL-DER++ {level} {seconds:.1f} s: {report['speedup'][level]:.2f}x")
    _print(report, as_json, "\n".join(lines))


@app.command()
def memory(
    network: Network = "resnet18",
    width: Width = 64,
    image: Image = 32,
    batch: Batch = 32,
    sparsity: Level = 0.95,
    threads: Threads = 2,
    repeats: Rounds = 5,
    as_json: Json = False,
) -> None:
    """Peak memory of training, dense and sparse, in fresh processes.

    Example: sparcl-lite bench memory --batch 96 --sparsity 0.95
    """
    _check_network(network)
    _needs_numba()
    from sparcl_lite.bench.memory import memory as measure
    from sparcl_lite.bench.workload import Workload

    report = measure(Workload(network, width, image, batch, sparsity, threads), repeats=repeats)
    _print(report, as_json, (
        f"dense {report['dense_bytes'] / 1e6:.0f} MB, sparse {report['sparse_bytes'] / 1e6:.0f} MB: "
        f"{report['ratio']:.2f} of it"
    ))  # fmt: skip


@app.command()
def kernels(
    width: Width = 64,
    image: Image = 32,
    batch: Batch = 32,
    sparsity: Level = 0.95,
    threads: Threads = 2,
    as_json: Json = False,
) -> None:
    """Each product of each kind of layer, against the limits of this machine.

    Example: sparcl-lite bench kernels --width 64 --sparsity 0.95 --threads 2
    """
    _needs_numba()
    from sparcl_lite.bench.kernels import PRODUCTS
    from sparcl_lite.bench.kernels import kernels as measure
    from sparcl_lite.bench.workload import Workload

    report = measure(Workload("resnet18", width, image, batch, sparsity, threads))
    lines = [", ".join(f"{name} {value:.0f}" for name, value in report["limits"].items())]
    for layer in report["layers"]:
        parts = (
            f"{p} {layer[p]['ms']:.2f} ms, {layer[p]['gflops']:.0f} GFLOP/s ({100 * layer[p]['share_of_limit']:.0f} %)"
            for p in PRODUCTS
        )
        lines.append(f"{layer['layer']}: {'; '.join(parts)}")
    _print(report, as_json, "\n".join(lines))


@app.command()
def parts(
    width: Width = 64,
    image: Image = 32,
    batch: Batch = 32,
    sparsity: Level = 0.95,
    threads: Threads = 2,
    repeats: Rounds = 7,
    as_json: Json = False,
) -> None:
    """Where the time of a step goes, dense and sparse: convolutions, the update, and what is between.

    Example: sparcl-lite bench parts --sparsity 0.95
    """
    _needs_numba()
    from sparcl_lite.bench.parts import PARTS
    from sparcl_lite.bench.parts import parts as measure
    from sparcl_lite.bench.workload import Workload

    report = measure(Workload("resnet18", width, image, batch, sparsity, threads), repeats=repeats)
    lines = [
        f"{name}: {', '.join(f'{part} {report[name][part]:.1f} ms' for part in PARTS)}" for name in ("dense", "sparse")
    ]
    _print(report, as_json, "\n".join(lines))


@app.command()
def lightcl(
    profile: Annotated[str, typer.Option(help="smoke, lite or paper")] = "paper",
    threads: Threads = 2,
    repeats: Rounds = 5,
    as_json: Json = False,
) -> None:
    """Peak memory and step time of the rows of LightCL's table.

    Example: sparcl-lite bench lightcl --json > results/bench/lightcl-memory.json
    """
    _check_profile(profile)
    _needs_numba()
    from sparcl_lite.bench.lightcl import lightcl as measure

    report = measure(profile=profile, threads=threads, repeats=repeats)
    lines = [
        f"{row}: {peak / 1e6:.0f} MB, {report['step_ms'][row]:.1f} ms a step, {report['speedup'][row]:.2f}x of DER++"
        for row, peak in report["peak_bytes"].items()
    ]
    _print(report, as_json, "\n".join(lines))


def _print(report: dict[str, Any], as_json: bool, text: str) -> None:
    print(json.dumps(report, indent=1) if as_json else text)


def _check_network(name: str) -> None:
    if name not in ("resnet18", "small"):
        raise KitError(f"network = {name!r}: unknown; allowed: resnet18, small")


def _check_profile(name: str) -> None:
    from sparcl_lite.config.profiles import PROFILES

    if name not in PROFILES:
        raise KitError(f"profile = {name!r}: unknown; allowed: {', '.join(PROFILES)}")


def _needs_numba() -> None:
    import importlib.util

    if importlib.util.find_spec("numba") is None:
        raise KitError('numba is missing: pip install "sparcl-lite[kernels]"')
