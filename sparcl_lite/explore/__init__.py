"""Widgets that train, look into runs, tables and claims, and cluster, in a notebook; each has a still picture.

What a view shows is computed by functions that know no widget, beside the widgets that show it.
"""

from sparcl_lite.late import names_of

__all__ = ["Claims", "Genes", "Inside", "Tables", "Train"]
__getattr__, __dir__ = names_of(
    __name__,
    {"Claims": "claims", "Genes": "genes", "Inside": "inside", "Tables": "tables", "Train": "train"},
)
