"""What every loader and the simulator return."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Cells:
    """Samples to cluster, with the truth to compare with.

    Attributes
    ----------
    name : of the data set
    X : (m, d), dense or CSR
    labels : true class of every sample, (m,) text; None where nobody knows
    genes : names, (d,) text; numbered where the source has none
    truth : which genes truly differ between classes, (d,) booleans; None where nobody knows
    names : of the samples, (m,) text, or None
    """

    name: str
    X: Any
    labels: np.ndarray | None
    genes: np.ndarray
    truth: np.ndarray | None = None
    names: np.ndarray | None = None

    @property
    def n_classes(self) -> int:
        """Number of true classes."""
        return len(np.unique(self.labels))
