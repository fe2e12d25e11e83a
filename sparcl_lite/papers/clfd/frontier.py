"""What multiplies: quarter-size inputs, weights that do not exist and data removed, over three replay methods."""

from collections.abc import Sequence
from typing import Any

from sparcl_lite.config.clfd import CLFD
from sparcl_lite.papers.clfd.tables import NAMES
from sparcl_lite.papers.experiments import Experiment, Row
from sparcl_lite.papers.sparcl.tables import OTHERS, level
from sparcl_lite.sparsity import SparCL

LESS = 0.6  # share of a task's samples removed where twice SparCL's own 0.3 is
LESS_DATA = "-less"  # ending of the family of such a row


def frontier(
    *,
    buffer: int = 200,
    methods: Sequence[str] = tuple(NAMES),
    sparsities: Sequence[float] = (0.90, 0.95),
    variant: str = "paper",
    **shared: Any,
) -> Experiment:
    """Each method with and without CLFD, dense and under SparCL; with both at the highest sparsity on less data, too.

    All are compared with dense ER. The id of a row ends with the buffer, whose size costs next to nothing: the rest is
    its family, by which `bench.cost` names what it measures.
    """
    sparse = {f"sparcl-{{}}-{level(s)}": SparCL(sparsity=s, variant=variant) for s in sparsities}
    rows = [("sgd", "SGD", {"method": "sgd", "buffer_size": 0})]
    for method in methods:
        for prefix, clfd in (("", {}), ("clfd-", {"clfd": CLFD(variant=variant)})):
            common = {"method": method, "buffer_size": buffer} | clfd
            name = prefix.upper() + NAMES[method]
            rows.append((prefix + method, name, common))
            for form, strategy in sparse.items():
                label = f"{prefix.upper()}SparCL-{NAMES[method]} {level(strategy.sparsity)}"
                rows.append((prefix + form.format(method), label, common | {"sparse": strategy}))
        if sparse:
            fewer = strategy.model_copy(update={"removal": LESS})
            rows.append((rows[-1][0] + LESS_DATA, f"{label}, {LESS:.0%} of data removed", common | {"sparse": fewer}))
    own = [
        Row(f"{family}-{buffer}", label, values, OTHERS, None if family == "er" else f"er-{buffer}")
        for family, label, values in rows
    ]
    return Experiment("frontier", "clfd", None, tuple(own), shared, printed=False)


def family_of(row: str) -> str:
    """The family of a row's id: what comes before its buffer."""
    return row.rpartition("-")[0]
