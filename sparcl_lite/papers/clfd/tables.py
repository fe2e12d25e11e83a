"""CLFD's tables as experiments: over ER, DER++ and ER-ACE, beside and under SparCL, and its parts."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from sparcl_lite.config.clfd import CLFD
from sparcl_lite.papers.experiments import Experiment, Row
from sparcl_lite.papers.sparcl.studies import attribution
from sparcl_lite.papers.sparcl.tables import DECIDING, MASKED, OTHERS, level
from sparcl_lite.sparsity import SparCL

NAMES = {"er": "ER", "der++": "DER++", "er-ace": "ER-ACE"}
BANDS = ("ll", "lh", "hl", "hh")
KEPT = (0.1, 0.3, 0.5, 0.6, 0.9)  # of Table A3, and the default
NO_REMOVAL = "-ddr"  # ending of the id of a row that trains on all of the data


def tables(
    *, buffers: Sequence[int] = (50, 125), sparsity: float = 0.75, variant: str = "paper", **shared: Any
) -> Experiment:
    """Tables 1 and 3: each replay method with and without CLFD, then ER with SparCL and with both, at the first buffer.

    There SparCL-ER's gain is taken apart, too: ER and SparCL-ER under the masked loss, and the latter on all data.
    """
    clfd, first = CLFD(variant=variant), buffers[0]
    rows = [row for buffer in buffers for method in NAMES for row in _pair(method, buffer, clfd, buffer == first)]
    rows += _with_sparcl(SparCL(sparsity=sparsity), first, clfd)
    return Experiment("clfd_tables", "clfd", "tables", tuple(rows), shared, sparsity == 0.75)


def _pair(method: str, buffer: int, clfd: CLFD, deciding: bool) -> list[Row]:
    values, seeds = {"method": method, "buffer_size": buffer}, DECIDING if deciding else OTHERS
    plain, label = f"{method}-{buffer}", NAMES[method]
    against = None if method == "er" else f"er-{buffer}"
    return [
        Row(plain, label, values, seeds, against),
        Row(f"clfd-{plain}", f"CLFD-{label}", values | {"clfd": clfd}, seeds, plain),
    ]


def _with_sparcl(sparse: SparCL, buffer: int, clfd: CLFD) -> list[Row]:
    values, masked = {"method": "er", "buffer_size": buffer}, {"masked_ce": True}
    er, name = f"er-{buffer}", f"SparCL-ER {level(sparse.sparsity)}"
    row = f"sparcl-er-{level(sparse.sparsity)}-{buffer}"
    whole = sparse.model_copy(update={"ddr": False})
    settings = [
        (row, name, {"sparse": sparse}, er),
        (f"clfd-{row}", f"CLFD-{name}", {"sparse": sparse, "clfd": clfd}, row),
        (er + MASKED, "ER, masked loss", masked, er),
        (row + MASKED + NO_REMOVAL, f"{name}, masked loss, all data", masked | {"sparse": whole}, er + MASKED),
        (row + MASKED, f"{name}, masked loss", masked | {"sparse": sparse}, er + MASKED),
    ]
    return [Row(name, label, values | own, DECIDING, against) for name, label, own, against in settings]


def ablation(*, buffer: int = 50, kept: Sequence[float] = KEPT, variant: str = "paper", **shared: Any) -> Experiment:
    """Tables 2, 4 and A3: encoder and selection on and off, one band in place of the encoder, features kept."""

    def row(name: str, label: str, method: str, against: str | None, **fields: Any) -> Row:
        clfd = {"clfd": CLFD(variant=variant, **fields)} if fields else {}
        return Row(name, label, {"method": method, "buffer_size": buffer} | clfd, OTHERS, against)

    default = CLFD().kept
    rows = [
        row("none", "ER", "er", None),
        row("ffe", "FFE alone", "er", "none", cffs=False),
        row("cffs", "CFFS alone", "er", "none", ffe=False),
        row("both", "CLFD-ER", "er", "none", ffe=True),
        row("ffe-der++", "CLFD-DER++", "der++", None, ffe=True),
        *(row(band, f"CLFD-DER++, band {band} alone", "der++", "ffe-der++", band=band) for band in BANDS),
    ]
    for method, own in (("er", "both"), ("er-ace", f"kept-er-ace-{default:.1f}")):
        for share in dict.fromkeys((default, *kept)):
            name, label = f"kept-{method}-{share:g}", f"CLFD-{NAMES[method]}"
            if share != default:
                rows.append(row(name, f"{label}, {share:.0%} kept", method, own, kept=share))
            elif name == own:
                rows.append(row(name, label, method, None, kept=share))
    return Experiment("clfd_ablation", "clfd", "ablation", tuple(rows), shared, buffer == 50)


def gain_of_sparcl(experiment: Experiment, frame: pd.DataFrame) -> pd.DataFrame:
    """SparCL-ER's gain as published (masked loss against ER without), its three parts, and ER-ACE's, paired by seed.

    `attrs["verdict"]` says in words which part it comes from: a part counts when its interval is above zero.
    """
    er = experiment.rows[0].id
    sparse, whole = (row.id for row in experiment.rows[-1:-3:-1])
    ace = next(row.id for row in experiment.rows if row.values["method"] == "er-ace")
    return attribution(frame, dense=er, masked=er + MASKED, whole=whole, sparse=sparse, others=[(ace, "ER-ACE")])
