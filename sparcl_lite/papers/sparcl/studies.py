"""What the paper shows in figures or leaves open, as experiments: data removal, sensitivity, confounders."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from sparcl_lite.papers.differences import ENOUGH_SEEDS, compared
from sparcl_lite.papers.experiments import Experiment, Row
from sparcl_lite.papers.sparcl.tables import DECIDING, NAMES, OTHERS, STUDIED, level
from sparcl_lite.sparsity import SparCL

RULES = {"stages": "DDR", "one_shot": "one-shot", "random": "random"}
#: Rows of the data-removal study that decide a claim, as (rule, share of the samples removed).
DECIDING_REMOVALS = {("stages", 0.1), ("stages", 0.3), ("stages", 0.5), ("stages", 0.9),
                     ("one_shot", 0.3), ("one_shot", 0.5), ("random", 0.3)}  # fmt: skip


def removal(
    *,
    proportions: Sequence[float] = (0.1, 0.3, 0.5, 0.9),
    sparsity: float = 0.75,
    buffer: int = 500,
    variant: str = "paper",
    **shared: Any,
) -> Experiment:
    """Figure 3: how many samples are removed, and by which rule, with TDM and DGM on throughout."""
    keep = SparCL(sparsity=sparsity, variant=variant, ddr=False)
    rows = [Row("none", "no removal", _der(buffer, keep), DECIDING)]
    for rule, name in RULES.items():
        for share in proportions:
            sparse = SparCL(sparsity=sparsity, variant=variant, removal=share, removal_rule=rule)
            seeds = DECIDING if (rule, share) in DECIDING_REMOVALS else STUDIED
            rows.append(Row(f"{rule}-{level(share)}", f"{name}, {share:.0%}", _der(buffer, sparse), seeds, "none"))
    printed = (sparsity, buffer) == (0.75, 500)
    return Experiment("sparcl_fig3", "sparcl", None, tuple(rows), shared, printed)


def against_random(experiment: Experiment, frame: pd.DataFrame) -> pd.DataFrame:
    """Class-IL of each rule that looks at the samples, less that of removing as many at random, paired by seed.

    Only where both rows have enough seeds to show a difference.
    """
    pairs = [
        (row.id, f"{row.label}, against random", f"random-{row.id.partition('-')[2]}")
        for row in experiment.rows
        if row.id.startswith(("stages-", "one_shot-"))
    ]
    table = compared(pairs, frame, "class_il")
    return table.loc[table["n"] >= ENOUGH_SEEDS, ["label", "difference", "low", "high", "n"]]


def _der(buffer: int, sparse: SparCL | None, **more: Any) -> dict[str, Any]:
    return {"method": "der++", "buffer_size": buffer} | ({"sparse": sparse} if sparse else {}) | more


#: One choice of SparCL changed at a time: its values beside the default.
CHANGES: dict[str, tuple] = {
    "p_intra": (0.0,),
    "kept_gradients": (1.0,),
    "growth": ("gradient",),
    "initial_mask": ("magnitude",),
}


def sensitivity(
    *,
    sparsity: float = 0.90,
    buffer: int = 200,
    buffers: Sequence[int] = (500,),
    changes: dict[str, Sequence] | None = None,
    variant: str = "paper",
    **shared: Any,
) -> Experiment:
    """SparCL-DER++ with one parameter changed at a time, and with smaller and larger buffers (beside dense DER++).

    `changes` are `CHANGES` unless given; for the official variant, without those that it fixes.
    """
    if changes is None:
        fixed = () if variant == "paper" else ("growth", "initial_mask")
        changes = {name: values for name, values in CHANGES.items() if name not in fixed}
    default = SparCL(sparsity=sparsity, variant=variant)
    rows = [Row("default", "default", _der(buffer, default), STUDIED)]
    for name, values in changes.items():
        for value in values:
            changed = SparCL(sparsity=sparsity, variant=variant, **{name: value})
            rows.append(Row(f"{name}={value}", f"{name} = {value}", _der(buffer, changed), STUDIED, "default"))
    if variant == "paper" and changes == CHANGES:  # CWI without any gradient
        magnitude = SparCL(sparsity=sparsity, variant=variant, alpha=0.0, beta=0.0)
        rows.append(Row("alpha=beta=0", "alpha = beta = 0", _der(buffer, magnitude), STUDIED, "default"))
    for size in (buffer, *buffers):
        rows.append(Row(f"dense-{size}", f"DER++, buffer {size}", _der(size, None), STUDIED))
        if size != buffer:
            row = Row(f"sparse-{size}", f"SparCL, buffer {size}", _der(size, default), STUDIED, f"dense-{size}")
            rows.append(row)
    return Experiment("sparcl_sensitivity", "sparcl", None, tuple(rows), shared, printed=False)


def engines(*, sparsity: float = 0.95, buffer: int = 500, variant: str = "paper", **shared: Any) -> Experiment:
    """The same SparCL-DER++ on PyTorch's masked dense layers and on the kernels for the nonzero weights."""
    sparse = SparCL(sparsity=sparsity, variant=variant)
    rows = (
        Row("dense", "dense engine", _der(buffer, sparse, engine="dense"), OTHERS),
        Row("sparse", "sparse engine", _der(buffer, sparse, engine="sparse"), OTHERS, "dense"),
    )
    return Experiment("sparcl_engines", "sparcl", None, rows, shared, printed=False)


SUSPECTS = ("mask", "data", "bias", "loop", "er")


def confounders(
    *, sparsity: float = 0.75, buffer: int = 500, suspects: Sequence[str] = ("mask", "data", "er"), **shared: Any
) -> Experiment:
    """What else differs between the paper's two methods, one thing at a time, for dense and sparse rows alike.

    `suspects`: "mask" (the masked loss), "data" (no data removed, under it), "bias" (batch-norm biases frozen at zero),
    "loop" (the official code's loop, whole variant), "er" (the masked loss over ER). Raises ValueError on any other.
    """
    unknown = set(suspects) - set(SUSPECTS)
    if unknown:
        raise ValueError(f"suspects: got {sorted(unknown)}, allowed are {list(SUSPECTS)}")
    paper, official = (SparCL(sparsity=sparsity, variant=v) for v in ("paper", "official"))
    whole = paper.model_copy(update={"ddr": False})
    frozen = SparCL(sparsity=sparsity, freeze_bn_bias=True)
    frozen_dense = frozen.model_copy(update={"tdm": False, "ddr": False, "dgm": False})
    masked, unmasked = {"masked_ce": True}, {"masked_ce": False}
    loop = masked | {"replay_from_task": 1, "drop_last": True, "even_batches": False}
    er = {"method": "er"}
    settings = {
        None: [
            ("dense", "DER++", None, {}, DECIDING, None),
            ("sparse", "SparCL-DER++", paper, {}, DECIDING, "dense"),
        ],
        "mask": [
            ("dense+mask", "DER++, masked loss", None, masked, OTHERS, "dense"),
            ("sparse+mask", "SparCL-DER++, masked loss", paper, masked, OTHERS, "dense+mask"),
        ],
        "data": [
            ("sparse+mask-ddr", "SparCL-DER++, masked loss, all data", whole, masked, OTHERS, "dense+mask"),
        ],
        "bias": [
            ("dense+frozen", "DER++, BN biases frozen", frozen_dense, {}, OTHERS, "dense"),
            ("sparse+frozen", "SparCL-DER++, BN biases frozen", frozen, {}, OTHERS, "dense+frozen"),
        ],
        "loop": [
            ("dense+loop", "DER++, official loop", None, loop, OTHERS, "dense"),
            ("official", "SparCL-DER++, official variant", official, {}, OTHERS, "dense+loop"),
            ("official-mask", "SparCL-DER++, official but unmasked", official, unmasked, OTHERS, "dense"),
        ],
        "er": [
            ("er", NAMES["er"], None, er, OTHERS, None),
            ("er+mask", "ER, masked loss", None, er | masked, OTHERS, "er"),
            ("sparcl-er", "SparCL-ER", paper, er, OTHERS, "er"),
            ("sparcl-er+mask", "SparCL-ER, masked loss", paper, er | masked, OTHERS, "er+mask"),
        ],
    }
    rows = [
        Row(name, label, _der(buffer, sparse, **more), seeds, against)
        for suspect in (None, *suspects)
        for name, label, sparse, more, seeds, against in settings[suspect]
    ]
    return Experiment("sparcl_confounders", "sparcl", None, tuple(rows), shared, printed=False)


def attribution(
    frame: pd.DataFrame,
    *,
    dense: str = "dense",
    masked: str = "dense+mask",
    whole: str = "sparse+mask-ddr",
    sparse: str = "sparse+mask",
    others: Sequence[tuple[str, str]] = (),
) -> pd.DataFrame:
    """The published comparison (sparse with the masked loss, dense without) and its parts, paired by seed.

    The rows are given by id, `masked` the dense one and `whole` the sparse one on all data; without runs of the latter
    sparsity and fewer data are one part. `others` are compared with `dense`, too. `attrs["verdict"]` says in words
    which parts the gain comes from: a part counts when its interval is above zero; `attrs["complete"]` whether the
    whole and every part have runs.
    """
    parts = {"the masked loss": (masked, dense), "sparsity": (whole, masked), "fewer data": (sparse, whole)}
    if whole not in set(frame["row"]):
        parts = {"the masked loss": (masked, dense), "sparsity and fewer data": (sparse, masked)}
    said = {"the masked loss": "the masked loss alone, dense", "sparsity": "sparsity, all masked, on all data"}
    pairs = [(sparse, "as published: sparse, masked loss - dense", dense)]
    pairs += [(row, said.get(name, f"{name}, all masked"), against) for name, (row, against) in parts.items()]
    pairs += [(row, f"beside it: {label} - dense", dense) for row, label in others]
    table = compared(pairs, frame, "class_il").rename(columns={"label": "comparison"})
    found = {(line.row, line.against): line for line in table.itertuples()}
    parts = {"as published": (sparse, dense)} | parts
    table = table[["comparison", "difference", "low", "high", "n"]]
    lines = {name: found[pair] for name, pair in parts.items() if pair in found}
    table.attrs["complete"] = len(lines) == len(parts)
    table.attrs["verdict"] = _words(lines) if table.attrs["complete"] else "not known: some rows have no runs"
    return table


def _words(lines: dict[str, Any]) -> str:
    if any(line.n < 2 for line in lines.values()):
        return "one seed decides nothing"
    published, *parts = (line.low > 0 for line in lines.values())
    names = list(lines)[1:]
    sources = [name for name, raises in zip(names, parts, strict=True) if raises]
    start = "a gain as published" if published else "no gain as published"
    return f"{start}; what raises accuracy here: {' and '.join(sources) or 'neither ' + ' nor '.join(names)}"
