"""Benchmarks on this machine: bench overhead, step, sweep, train, memory, kernels, parts, lightcl, rivals, cells."""

import importlib.util
import json
import os
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
Network = Annotated[str, typer.Option("--network", "--model", help="resnet18, small, or torchvision:NAME")]
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
    from sparcl_lite.runs.benchmark import in_words, measure

    names, steps, reports = profile or ["lite", "paper"], {"smoke": 20, "lite": 16, "desk": 8, "paper": 4}, {}
    _check(*({"profile": name} for name in names))
    for name, level in ((name, level) for name in names for level in (None, sparsity)):
        given = {"profile": name, "sparsity": level, "threads": threads, "steps": steps[name], "repeats": repeats}
        title = f"{name}, {'dense' if level is None else 'sparse'}"
        reports[title] = measure("overhead", **given)
        if not as_json:
            print(f"{title}: {in_words('overhead', reports[title])}")
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
    sizes = {"network": network, "width": width, "image": image, "batch": batch, "sparsity": sparsity}
    _show("step", as_json, **sizes, threads=threads, repeats=repeats, compiled=compiled)


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
    sizes = {"network": network, "width": width, "image": image, "batch": batch}
    _show("sweep", as_json, **sizes, threads=threads, repeats=repeats)


@app.command()
def train(
    profile: Annotated[str, typer.Option(help="smoke, lite, desk or paper")] = "lite",
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
    given = {
        "profile": profile,
        "sparsities": sparsity or [0.95],
        "threads": threads,
        "repeats": repeats,
        "steps": steps,
    }
    more = {name: value for name, value in (("epochs", epochs), ("tasks", tasks)) if value}
    _show("train", as_json, **given, **more)


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
    sizes = {"network": network, "width": width, "image": image, "batch": batch, "sparsity": sparsity}
    _show("memory", as_json, **sizes, threads=threads, repeats=repeats)


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
    _show("kernels", as_json, width=width, image=image, batch=batch, sparsity=sparsity, threads=threads)


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
    sizes = {"width": width, "image": image, "batch": batch, "sparsity": sparsity}
    _show("parts", as_json, **sizes, threads=threads, repeats=repeats)


@app.command()
def lightcl(
    profile: Annotated[str, typer.Option(help="smoke, lite, desk or paper")] = "paper",
    threads: Threads = 2,
    repeats: Rounds = 5,
    as_json: Json = False,
) -> None:
    """Peak memory and step time of the rows of LightCL's table.

    Example: sparcl-lite bench lightcl --profile paper --threads 2
    """
    _show("lightcl", as_json, profile=profile, threads=threads, repeats=repeats)


@app.command()
def rivals(
    rival: Annotated[list[str] | None, typer.Option(help="repeatable; all when left out")] = None,
    network: Network = "resnet18",
    width: Width = 64,
    image: Image = 32,
    batch: Batch = 32,
    features: Annotated[int, typer.Option(min=16, help="inputs and outputs of the linear layer")] = 1024,
    sparsity: Annotated[list[float] | None, typer.Option(min=0, max=0.999, help="repeatable; 0.75 to 0.99")] = None,
    threads: Threads = 2,
    repeats: Rounds = 5,
    memory: Annotated[bool, typer.Option(help="also peak memory, each in a fresh process")] = True,
    as_json: Json = False,
) -> None:
    """A step of a convolution, a linear layer and a network, on the engine and on what others offer.

    Rivals that are not installed are a line that says how.

    Example: sparcl-lite bench rivals --threads 2 --json
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before PyTorch is imported: see `bench.rivals`
    chosen = {"names": rival} if rival else {}
    levels = {"levels": sparsity} if sparsity else {}
    sizes = {"network": network, "width": width, "image": image, "batch": batch, "features": features}
    _show("rivals", as_json, **chosen, **levels, **sizes, threads=threads, repeats=repeats, memory=memory)


@app.command()
def cells(
    size: Annotated[list[str], typer.Option(help="CELLSxGENES, repeatable")] = ["1000x2000", "10000x2000"],  # noqa: B006
    method: Annotated[list[str] | None, typer.Option(help="k-sparse, minibatch-kmeans, leiden; all if none")] = None,
    dask: Annotated[bool, typer.Option("--dask", help="out of core, K-sparse only")] = False,
    loops: Annotated[int, typer.Option(min=1, help="of K-sparse at most")] = 10,
    threads: Threads = 2,
    as_json: Json = False,
) -> None:
    """Cluster many simulated sparse cells: time, peak memory, accuracy, and how they grow; each in a fresh process.

    Example: sparcl-lite bench cells --size 100000x2000 --method k-sparse --threads 2
    """
    from sparcl_lite.bench.cells import METHODS
    from sparcl_lite.runs.benchmark import in_words, measure

    chosen = method or (["k-sparse"] if dask else [*METHODS])
    if wrong := [name for name in chosen if name not in METHODS or (dask and name != "k-sparse")]:
        allowed = "k-sparse with --dask" if dask else ", ".join(METHODS)
        raise KitError(f"method = {wrong[0]!r}: allowed: {allowed}")
    sizes = [_size(text) for text in size]
    report = measure("cells", sizes=sizes, methods=chosen, threads=threads, max_iter=loops, dask=dask)
    print(json.dumps(report, indent=1) if as_json else in_words("cells", report))


def _size(text: str) -> tuple[int, int]:
    parts = text.split("x")
    if len(parts) != 2 or not all(part.isdecimal() for part in parts):
        raise KitError(f"size = {text!r}: allowed: CELLSxGENES, such as 100000x2000")
    return int(parts[0]), int(parts[1])


def _show(benchmark: str, as_json: bool, **settings: Any) -> None:
    _check(settings)
    if importlib.util.find_spec("numba") is None:
        raise KitError('numba is missing: pip install "sparcl-lite[kernels]"')
    from sparcl_lite.runs.benchmark import in_words, measure

    report = measure(benchmark, **settings)
    print(json.dumps(report, indent=1) if as_json else in_words(benchmark, report))


def _check(*given: dict[str, Any]) -> None:
    from sparcl_lite.config.profiles import PROFILES

    allowed = {"network": ("resnet18", "small"), "profile": tuple(PROFILES)}
    source = "torchvision:"
    if any(str(settings.get("network")).startswith(source) for settings in given):
        import torchvision

        allowed["network"] = tuple(source + name for name in torchvision.models.list_models(torchvision.models))
    for name, value in ((name, settings[name]) for settings in given for name in allowed if name in settings):
        if value not in allowed[name]:
            raise KitError(f"{name} = {value!r}: unknown; allowed: {', '.join(allowed[name])}")
