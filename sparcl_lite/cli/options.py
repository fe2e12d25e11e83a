"""Options that several commands share, and how they become configurations, experiments and stores."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from sparcl_lite.errors import KitError
from sparcl_lite.paths import folder


def _names(*registries: str) -> Callable[[str], list[str]]:
    """Completes a name that is registered."""

    def complete(incomplete: str) -> list[str]:
        from sparcl_lite import registry

        names = [name for each in registries for name in getattr(registry, each)]
        return [name for name in names if name.startswith(incomplete)]

    return complete


Profile = Annotated[str, typer.Option(help="smoke, lite, desk or paper")]
StorePath = Annotated[Path, typer.Option(help="folder of finished runs", envvar="SPARCL_LITE_STORE", callback=folder)]
Output = Annotated[Path, typer.Option(help="folder of report/, figures/ and store/", callback=folder)]
Json = Annotated[bool, typer.Option("--json", help="print JSON, and nothing else, on stdout")]
Dataset = Annotated[
    str | None, typer.Option(autocompletion=_names("DATASETS"), help="data set; the profile's own when left out")
]
Method = Annotated[
    str | None,
    typer.Option(
        autocompletion=_names("METHODS", "CLUSTERERS"),
        help="or a clusterer: see sparcl-lite names; DER++ when left out",
    ),
]
Sparse = Annotated[
    str | None,
    typer.Option(
        autocompletion=_names("STRATEGIES"), help="kind of sparse training: see sparcl-lite names; dense when left out"
    ),
]
Sparsity = Annotated[float | None, typer.Option(help="share of zero weights, 0 <= s < 1")]
BufferSize = Annotated[int | None, typer.Option(help="samples that the replay buffer holds")]
Variant = Annotated[str, typer.Option(help="of sparcl or lightcl: paper, or official: as the authors' code behaves")]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="any field: lr=0.05, tasks=4,3,3, sparse.p_intra=0.005; repeatable")
]
Scheduler = Annotated[str | None, typer.Option(help="address of a Dask scheduler; this machine when left out")]
Seeds = Annotated[int, typer.Option(min=1, help="runs per table row, at most")]
EVIDENCE = Path("results")


def fields_from(
    profile: str, dataset: str | None, method: str | None, sparse: str | None, sparsity: float | None,
    buffer_size: int | None, variant: str, settings: list[str] | None, **more: Any,
) -> dict[str, Any]:  # fmt: skip
    """The fields of a configuration, as the options give them."""
    from sparcl_lite.registry import STRATEGIES

    given = {"profile": profile, "method": method, "dataset": dataset, "buffer_size": buffer_size} | more
    given = {name: value for name, value in given.items() if value is not None}
    if sparse:
        given["sparse"] = {"kind": sparse} | ({} if variant == "paper" else {"variant": variant})
        if sparsity is not None:
            given["sparse"]["sparsity"] = sparsity
    elif sparsity is not None:
        raise KitError(f"sparsity = {sparsity}: needs --sparse; allowed: {', '.join(STRATEGIES)}")
    elif variant != "paper":
        given[_section_with_variants(method, variant)] = {"variant": variant}
    for name, value in assignments(settings).items():
        place = given
        *parents, last = name.split(".")
        if name.partition(".")[0] == "registered":
            raise KitError(f"{name}: is filled in by itself; allowed: --plugin FILE, which registers names")
        for parent in parents:
            place = place.setdefault(parent, {})
            if not isinstance(place, dict):
                raise KitError(f"{name}: {parent} has no fields; allowed: those of sparse, e.g. sparse.sparsity=0.9")
        place[last] = value
    return given


def config_of(given: dict[str, Any], **context: bool):
    """The configuration with these fields: of a clustering where `method` is a clusterer, else of training.

    `context` is that of the validation: see `config.base`.
    """
    from sparcl_lite.clustering.config import ClusteringConfig
    from sparcl_lite.config import RunConfig
    from sparcl_lite.registry import CLUSTERERS, METHODS

    method = given.get("method")
    kind = ClusteringConfig if method not in (None, *METHODS) and method in CLUSTERERS else RunConfig
    return kind.model_validate(given, context=context)


def _section_with_variants(method: str | None, variant: str) -> str:
    """The field of a method's own that has a `variant`."""
    from sparcl_lite.registry import METHODS

    fields = METHODS[method].Parameters.model_fields if method else {}
    for name, field in fields.items():
        if "variant" in getattr(field.annotation, "model_fields", {}):
            return name
    raise KitError(f"variant = {variant!r}: needs --sparse sparcl or --method lightcl")


def assignments(texts: list[str] | None) -> dict[str, Any]:
    values = {}
    for text in texts or []:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise KitError(f"{text!r} is no assignment; allowed: NAME=VALUE, e.g. lr=0.05")
        try:
            values[name] = json.loads(value)
        except (ValueError, RecursionError):  # no JSON, or a number or nesting beyond all reason
            values[name] = value
    return values


def experiment_named(name: str, profile: str, dataset: str | None):
    from sparcl_lite.papers.registry import experiments

    known = experiments(profile, dataset or "")
    if name not in known:
        raise KitError(f"experiment = {name!r}: unknown; allowed: {', '.join(known)}")
    return known[name]


def store_with_evidence(path: Path):
    from sparcl_lite.runs.store import Store

    return Store(path, *([EVIDENCE] if EVIDENCE.is_dir() else []))
