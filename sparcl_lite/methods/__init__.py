"""Continual-learning methods, each reading like its equation. None of them knows of sparse strategies."""

from sparcl_lite.methods.agem import AGEM
from sparcl_lite.methods.base import Method
from sparcl_lite.methods.der import DER, DERpp
from sparcl_lite.methods.er import ER
from sparcl_lite.methods.ewc import OnlineEWC
from sparcl_lite.methods.fdr import FDR
from sparcl_lite.methods.finetune import SGD, Joint
from sparcl_lite.methods.icarl import ICaRL
from sparcl_lite.methods.lightcl import LightCL
from sparcl_lite.methods.lwf import LwF
from sparcl_lite.methods.packnet import LPS, PackNet
from sparcl_lite.methods.pnn import PNN

METHODS: dict[str, type[Method]] = {
    "sgd": SGD,
    "joint": Joint,
    "ewc": OnlineEWC,
    "lwf": LwF,
    "packnet": PackNet,
    "lps": LPS,
    "pnn": PNN,
    "agem": AGEM,
    "icarl": ICaRL,
    "fdr": FDR,
    "er": ER,
    "der": DER,
    "der++": DERpp,
    "lightcl": LightCL,
}

__all__ = ["METHODS", "Method"]
