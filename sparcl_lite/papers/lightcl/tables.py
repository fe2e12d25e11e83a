"""LightCL's table and its ablation as experiments; the analysis of its blocks is in `generalizability`."""

from collections.abc import Sequence
from typing import Any

from sparcl_lite.config import RunConfig
from sparcl_lite.config.run import MIN_CHANNELS, UNFROZEN
from sparcl_lite.methods.lightcl_settings import LightCL
from sparcl_lite.models import layout_of
from sparcl_lite.papers.experiments import Experiment, Row
from sparcl_lite.papers.lightcl.accounting import BUFFER
from sparcl_lite.registry import DATASETS
from sparcl_lite.sparsity import SparCL

SEEDS = 5
#: Channels that the sparse mode removes, by stage: the authors' shares, of which the small network lacks one stage.
PRUNED = {"resnet18": (0.2, 0.2, 0.7, 0.8), "small": (0.2, 0.7, 0.8)}
BETAS = (0.1, 10.0)  # times the profile's own
RATIOS = (0.0, 0.05, 0.3, 1.0)
BUFFERS = (5, 30, 60)


def protocol(**shared: Any) -> dict[str, Any]:
    """What all runs of LightCL's items share: pre-training without a class of the stream, and the masked loss.

    CIFAR-10 at full size is pre-trained on CIFAR-100; other data sets give the classes of two tasks to pre-training.
    """
    plain = RunConfig(**shared, method="sgd")
    own = {"masked_ce": True}
    if (plain.profile, plain.dataset) == ("paper", "cifar10"):
        return shared | own | {"pretraining": "cifar100"}
    each = len(DATASETS[plain.dataset].classes) // plain.task_count
    return shared | own | {"pretraining": "disjoint", "pretraining_classes": 2 * each}


def table1(*, buffer: int = BUFFER, sparsity: float = 0.90, variant: str = "paper", **shared: Any) -> Experiment:
    """Table 1, with the two rivals that it leaves out: a frozen trunk alone, and ER above one.

    Sparse rows: SparCL at `sparsity`; LightCL with the channels removed that `PRUNED` names.
    """
    shared = protocol(**shared)
    plain = RunConfig(**shared, method="sgd")
    ours, frozen = f"lightcl-{buffer}", _frozen(plain)
    sparse, level = SparCL(sparsity=sparsity), f"{sparsity:.2f}"
    replay = {"buffer_size": buffer}
    settings = [
        ("joint", "JOINT", {"method": "joint"}),
        ("sgd", "SGD", {"method": "sgd"}),
        ("ewc", "EWC (online)", {"method": "ewc"}),
        ("pnn", "PNN", {"method": "pnn"}),
        (f"fdr-{buffer}", "FDR", {"method": "fdr"} | replay),
        (f"er-{buffer}", "ER", {"method": "er"} | replay),
        (f"der++-{buffer}", "DER++", {"method": "der++"} | replay),
        (f"sparcl-er-{level}-{buffer}", f"SparCL-ER {level}", {"method": "er", "sparse": sparse} | replay),
        (f"sparcl-der++-{level}-{buffer}", f"SparCL-DER++ {level}", {"method": "der++", "sparse": sparse} | replay),
        ("freeze", "frozen trunk alone", {"method": "sgd"} | frozen),
        (f"er-frozen-{buffer}", "ER, frozen trunk", {"method": "er"} | frozen | replay),
        (ours, "LightCL", {"method": "lightcl", "lightcl": LightCL(variant=variant)} | replay),
        (f"lightcl-{level}-{buffer}", f"LightCL {level}", _pruned(plain, variant) | replay),
    ]
    rows = tuple(Row(name, label, v, SEEDS, None if name == ours else ours) for name, label, v in settings)
    printed = (buffer, sparsity) == (BUFFER, 0.90)
    return Experiment("lightcl_table1", "lightcl", "table1", rows, shared, printed)


def _frozen(config: RunConfig) -> dict[str, Any]:
    """All but the last stage frozen from the first task on."""
    network = layout_of(config)
    return {"freeze": network.boundaries[-1 - len(network.last_stage)], "freeze_first_task": True}


def _pruned(plain: RunConfig, variant: str) -> dict[str, Any]:
    """The shares of `PRUNED`, or less where a stage is so narrow that too few channels would be left."""
    widths = zip(PRUNED[plain.network], layout_of(plain).widths, strict=True)
    prune = tuple(min(share, 1 - MIN_CHANNELS / width) for share, width in widths)
    return {"method": "lightcl", "lightcl": LightCL(variant=variant, prune=prune)}


def ablation(
    *,
    buffer: int = BUFFER,
    ratios: Sequence[float] = RATIOS,
    buffers: Sequence[int] = BUFFERS,
    betas: Sequence[float] = BETAS,
    variant: str = "paper",
    **shared: Any,
) -> Experiment:
    """LightCL's parts on and off, then one thing changed at a time: boundary, pattern, buffer, weight, batch norm.

    `betas` are multiples of the profile's weight of patterns and logits. "patterns" trains every layer.
    """
    shared = protocol(**shared)
    own = RunConfig(**shared, method="lightcl")
    free = {"freeze": UNFROZEN, "freeze_first_task": False}
    frozen, boundaries = _frozen(own), layout_of(own).boundaries

    def light(patterns: dict[str, Any] | None = None, **values: Any) -> dict[str, Any]:
        settings = LightCL(variant=variant, **patterns or {})
        return {"method": "lightcl", "buffer_size": buffer, "lightcl": settings} | values

    sgd = {"method": "sgd", "lr": own.lr}
    rows = [
        Row("none", "neither: SGD", sgd, SEEDS, "both"),
        Row("freeze", "freezing only", sgd | frozen, SEEDS, "none"),
        Row("patterns", "patterns only", light(**free), SEEDS, "none"),
        Row("both", "LightCL", light(), SEEDS, "freeze"),
    ]
    changes = [
        (f"boundary-{name}", f"frozen up to {name}", light(freeze=name, freeze_first_task=True))
        for name in boundaries[1:]
        if name not in (frozen["freeze"], boundaries[-1])
    ]
    head_only = sgd | {"freeze": boundaries[-1], "freeze_first_task": True}
    changes.append(("boundary-linear", "all frozen but the head", head_only))
    changes += [(f"ratio-{r:g}", f"patterns of {r:.0%} of the channels", light({"ratio": r})) for r in ratios]
    changes.append(("random", "patterns of random channels", light({"channels": "random"})))
    changes += [(f"buffer-{size}", f"{size} reference samples", light(buffer_size=size)) for size in buffers]
    changes.append(("old", "references from earlier tasks", light({"reference": "old"})))
    changes += [(f"beta-{b:g}x", f"patterns and logits weigh {b:g}x", light(beta=b * own.beta)) for b in betas]
    changes.append(("no-logits", "logits not held", light({"logits": False})))
    changes.append(("norm-train", "frozen batch norm by batch", light(frozen_norm="train")))
    drawn = {"pretraining_epochs": 0}
    changes.append(
        ("no-pretraining", "no pre-training, first task trains all", light(freeze_first_task=False, **drawn))
    )
    changes.append(("random-trunk", "no pre-training, frozen as drawn", light(**drawn)))
    rows += [Row(name, label, values, SEEDS, "both") for name, label, values in changes]
    return Experiment("lightcl_ablation", "lightcl", None, tuple(rows), shared, buffer == BUFFER)
