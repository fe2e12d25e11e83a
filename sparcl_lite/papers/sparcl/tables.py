"""SparCL's printed tables as experiments; the studies behind its figures and choices are in `studies`."""

from collections.abc import Iterable, Sequence
from typing import Any

from sparcl_lite.config import Sparse
from sparcl_lite.papers.experiments import Experiment, Row
from sparcl_lite.sparsity import RigL, SparCL, StaticMask

NAMES = {
    "sgd": "SGD",
    "joint": "JOINT",
    "ewc": "EWC (online)",
    "lwf": "LwF",
    "packnet": "PackNet",
    "lps": "LPS",
    "agem": "A-GEM",
    "icarl": "iCaRL",
    "fdr": "FDR",
    "er": "ER",
    "der": "DER",
    "der++": "DER++",
}
BUFFERLESS = ("sgd", "joint", "ewc", "lwf", "packnet", "lps")
CORE = ("sgd", "joint", "er", "der++")  # what the paper's comparison is about, where a run takes long
DECIDING = 10  # seeds of rows that decide a claim
OTHERS = 5
STUDIED = 3  # of rows that show a tendency and decide nothing
MASKED = "+mask"  # ending of the id of a row that trains with the current-task-masked loss


def table1(
    *,
    buffers: Sequence[int] = (200, 500),
    sparsities: Sequence[float] = (0.75, 0.90, 0.95),
    variant: str = "paper",
    masked: Sequence[int] = (200, 500),
    methods: Sequence[str] | None = None,
    **shared: Any,
) -> Experiment:
    """Table 1: the `methods` (unless given all, at `desk` those of `CORE`), and SparCL over ER and DER++, by buffer.

    At the buffers of `masked` ER, DER++ and SparCL follow once more, dense and sparse alike, under the masked loss of
    the authors' code.
    """
    chosen = methods or (CORE if shared.get("profile") == "desk" else NAMES)
    rows = [_bufferless(method, buffers[0]) for method in BUFFERLESS if method in chosen]
    for buffer in buffers:
        replay = [_dense("er", buffer, OTHERS), _dense("der++", buffer, DECIDING)]
        for sparsity in sparsities:
            sparse = SparCL(sparsity=sparsity, variant=variant)
            replay += [sparse_row("er", sparse, buffer, OTHERS), sparse_row("der++", sparse, buffer, DECIDING)]
        rows += [_dense(method, buffer, OTHERS) for method in ("agem", "icarl", "fdr") if method in chosen] + replay
        rows += [with_masked_loss(row) for row in replay if buffer in masked]
    return Experiment("sparcl_table1", "sparcl", "table1", tuple(rows), shared)


def _bufferless(method: str, buffer: int) -> Row:
    return Row(method, NAMES[method], {"method": method, "buffer_size": 0}, OTHERS, f"der++-{buffer}")


def _dense(method: str, buffer: int, seeds: int) -> Row:
    name = {"agem": "a-gem"}.get(method, method)
    against = None if method == "der++" else f"der++-{buffer}"
    return Row(f"{name}-{buffer}", NAMES[method], {"method": method, "buffer_size": buffer}, seeds, against)


def with_masked_loss(row: Row) -> Row:
    """The row under the masked loss. Baseline: the dense row under the same loss; of a dense row its unmasked one."""
    against = row.against + MASKED if "sparse" in row.values else row.id
    return Row(row.id + MASKED, f"{row.label}, masked loss", row.values | {"masked_ce": True}, OTHERS, against)


def sparse_row(method: str, sparse: Sparse, buffer: int, seeds: int) -> Row:
    """A sparse strategy over a replay method, compared with the dense method: `sparcl-der++-0.90-500`."""
    kind = {"sparcl": "SparCL", "snip": "SNIP", "rigl": "RigL"}.get(sparse.kind, sparse.kind)
    values = {"method": method, "buffer_size": buffer, "sparse": sparse}
    label = f"{kind}-{NAMES[method]} {level(sparse.sparsity)}"
    return Row(f"{sparse.kind}-{method}-{level(sparse.sparsity)}-{buffer}", label, values, seeds, f"{method}-{buffer}")


def level(fraction: float) -> str:
    """A fraction in the papers' two digits, or in full: 0.951 must not pass for the paper's 0.95."""
    return f"{fraction:.2f}" if fraction == round(fraction, 2) else repr(fraction)


def table2(
    *,
    method: str = "der++",
    buffer: int = 500,
    sparsities: Sequence[float] = (0.90, 0.95),
    variant: str = "paper",
    **shared: Any,
) -> Experiment:
    """Table 2: other ways of sparse training beside SparCL, all over DER++; a random mask that never moves is ours."""
    rows = [_dense(method, buffer, DECIDING)]
    for sparsity in sparsities:
        rows += [sparse_row(method, sparse, buffer, seeds) for sparse, seeds in _rivals(sparsity, variant)]
    if method != "der++":
        rows[0] = Row(f"{method}-{buffer}", NAMES[method], rows[0].values, DECIDING)
    printed = (method, buffer) == ("der++", 500)
    return Experiment("sparcl_table2", "sparcl", "table2", tuple(rows), shared, printed)


def _rivals(sparsity: float, variant: str) -> Iterable[tuple[Sparse, int]]:
    yield StaticMask(kind="random", sparsity=sparsity), OTHERS
    yield StaticMask(kind="snip", sparsity=sparsity), DECIDING
    yield RigL(sparsity=sparsity), DECIDING
    yield SparCL(sparsity=sparsity, variant=variant), DECIDING


#: The parts of SparCL that are on in each row of the ablation; `printed` are the paper's own rows.
PARTS = {
    "none": (),
    "tdm": ("tdm",),
    "ddr": ("ddr",),
    "dgm": ("dgm",),
    "tdm+ddr": ("tdm", "ddr"),
    "tdm+dgm": ("tdm", "dgm"),
    "ddr+dgm": ("ddr", "dgm"),
    "tdm+ddr+dgm": ("tdm", "ddr", "dgm"),
}
PRINTED = ("none", "tdm", "tdm+ddr", "tdm+dgm", "tdm+ddr+dgm")


def table3(
    *, method: str = "der++", buffer: int = 500, sparsity: float = 0.75, variant: str = "paper", **shared: Any
) -> Experiment:
    """Table 3: TDM, DDR and DGM on and off; the paper's five rows and the three it leaves out."""
    rows = []
    for name, parts in PARTS.items():
        values: dict[str, Any] = {"method": method, "buffer_size": buffer}
        if parts:
            switches = {part: part in parts for part in ("tdm", "ddr", "dgm")}
            values["sparse"] = SparCL(sparsity=sparsity, variant=variant, **switches)
        seeds = DECIDING if name in PRINTED else OTHERS
        label = " + ".join(part.upper() for part in parts) or f"dense {NAMES[method]}"
        rows.append(Row(name, label, values, seeds, None if name == "none" else "none"))
    printed = (method, buffer, sparsity) == ("der++", 500, 0.75)
    return Experiment("sparcl_table3", "sparcl", "table3", tuple(rows), shared, printed)
