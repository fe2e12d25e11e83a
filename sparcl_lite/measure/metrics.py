"""Accuracy metrics of continual learning.

Scalar metrics read an accuracy matrix: shape `(T, T)`, in %, where entry `[i, j]` is the accuracy
on task `j` after training phase `i`. Tasks not seen yet (`j > i`) are NaN; joint training fills the
last row only. `None` counts as NaN, so a matrix read back from JSON works as it is. The two tensor
functions say which predictions are right when the task is unknown (Class-IL) or known (Task-IL).
Running the model and filling the matrix happen elsewhere.
"""

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

__all__ = [
    "backward_transfer",
    "class_il_correct",
    "final_average",
    "forgetting",
    "task_il_correct",
]


def final_average(matrix: ArrayLike) -> float:
    """Mean accuracy over all tasks after the last training phase, in %: `mean_j a[T-1, j]`.

    Raises ValueError when `matrix` is no accuracy matrix (see the module's docstring).
    Source: SparCL, Table 1; the official code divides the sum over seen tasks by their number.

    >>> final_average([[90.0, None], [60.0, 80.0]])
    70.0
    """
    return float(_checked(matrix)[-1].mean())


def forgetting(matrix: ArrayLike) -> float:
    """Mean drop from a task's best earlier accuracy to its final one, in percentage points.

    `mean_{j<T-1} (max_{j<=i<=T-2} a[i, j] - a[T-1, j])`; positive means forgotten. NaN where it is
    not defined: one task only, or a task without any earlier accuracy (joint training). Raises
    ValueError like `final_average`. Source: Chaudhry et al., "Riemannian Walk" (ECCV 2018); logged
    by the official SparCL code, not in the paper's tables.

    >>> forgetting([[90.0, None], [60.0, 80.0]])
    30.0
    """
    accuracy = _checked(matrix)
    if len(accuracy) == 1:
        return float("nan")
    best_before = np.fmax.reduce(accuracy[:-1, :-1], axis=0)  # fmax passes over NaN, silently
    return float((best_before - accuracy[-1, :-1]).mean())


def backward_transfer(matrix: ArrayLike) -> float:
    """Mean change of a task's accuracy since it was learned, in percentage points.

    `mean_{j<T-1} (a[T-1, j] - a[j, j])`; negative means forgotten. NaN for one task only and for
    joint training. Raises ValueError like `final_average`. Source: Lopez-Paz and Ranzato, "GEM"
    (NeurIPS 2017), equation 3.

    >>> backward_transfer([[90.0, None], [60.0, 80.0]])
    -30.0
    """
    accuracy = _checked(matrix)
    if len(accuracy) == 1:
        return float("nan")
    return float((accuracy[-1] - accuracy.diagonal())[:-1].mean())


def class_il_correct(logits: Tensor, labels: Tensor) -> Tensor:
    """Which samples the whole head gets right: the largest of all logits is the label's.

    `logits` is `(N, C)`, `labels` is `(N,)` of type long; returns a bool tensor `(N,)`. Raises
    ValueError on other shapes, types or labels outside `0..C-1`.

    >>> class_il_correct(torch.tensor([[0.1, 0.2, 0.9]]), torch.tensor([1]))
    tensor([False])
    """
    _check_logits(logits, labels)
    return logits.argmax(dim=1) == labels


def task_il_correct(logits: Tensor, labels: Tensor, task_classes: Tensor) -> Tensor:
    """Which samples are right once the task is told: logits outside `task_classes` count as -inf.

    `logits` is `(N, C)`, `labels` is `(N,)`, `task_classes` is `(K,)`, the class ids of the task
    that all samples belong to; returns a bool tensor `(N,)`. Raises ValueError like
    `class_il_correct`, and when a label is not in `task_classes`.

    >>> task_il_correct(torch.tensor([[0.1, 0.2, 0.9]]), torch.tensor([1]), torch.tensor([0, 1]))
    tensor([True])
    """
    _check_logits(logits, labels)
    _check_ids("task_classes", task_classes, logits.shape[1])
    if not task_classes.numel():
        raise ValueError("task_classes: got none, allowed are one or more class ids")
    foreign = labels[~torch.isin(labels, task_classes)]
    if foreign.numel():
        raise ValueError(f"labels: got {foreign[0]}, allowed are {task_classes.tolist()}")
    masked = torch.full_like(logits, float("-inf"))
    masked[:, task_classes] = logits[:, task_classes]
    return masked.argmax(dim=1) == labels


def _checked(matrix: ArrayLike) -> np.ndarray:
    """`matrix` as a float array, once it is known to be an accuracy matrix."""
    accuracy = np.asarray(matrix, dtype=float)
    if accuracy.ndim != 2 or accuracy.shape[0] != accuracy.shape[1] or not len(accuracy):
        raise ValueError(f"matrix: got shape {accuracy.shape}, allowed is (T, T) with T >= 1")
    wrong = accuracy[(accuracy < 0) | (accuracy > 100)]
    if wrong.size:
        raise ValueError(f"matrix: got {wrong[0]}, allowed are 0 to 100 (%) and NaN")
    if np.isnan(accuracy[-1]).any():
        raise ValueError(f"matrix: got last row {accuracy[-1]}, allowed are accuracies of all tasks")
    unseen = accuracy[np.triu_indices(len(accuracy), k=1)]
    if not np.isnan(unseen).all():
        value = unseen[~np.isnan(unseen)][0]
        raise ValueError(f"matrix: got {value} on a task not seen yet, allowed is NaN")
    return accuracy


def _check_logits(logits: Tensor, labels: Tensor) -> None:
    if logits.ndim != 2 or not logits.is_floating_point():
        got = f"{logits.dtype} of shape {tuple(logits.shape)}"
        raise ValueError(f"logits: got {got}, allowed is floating point (N, C)")
    _check_ids("labels", labels, logits.shape[1])
    if len(labels) != len(logits):
        raise ValueError(f"labels: got {len(labels)}, allowed are {len(logits)}, one per row of logits")


def _check_ids(field: str, ids: Tensor, classes: int) -> None:
    if ids.ndim != 1 or ids.dtype != torch.long:
        got = f"{ids.dtype} of shape {tuple(ids.shape)}"
        raise ValueError(f"{field}: got {got}, allowed is a 1-D LongTensor")
    outside = ids[(ids < 0) | (ids >= classes)]
    if outside.numel():
        raise ValueError(f"{field}: got {outside[0]}, allowed are 0 to {classes - 1}")
