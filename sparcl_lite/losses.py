"""Losses that methods and sparse strategies share."""

from __future__ import annotations

from sparcl_lite.late import F, Tensor, torch


def cross_entropy(logits: Tensor, labels: Tensor, classes: Tensor | None = None) -> Tensor:
    """Mean cross-entropy; with `classes` the logits of all other classes are masked out (single-head loss)."""
    if classes is not None:
        logits = logits - (~is_among(classes, logits.shape[1])) * 1e9
    return F.cross_entropy(logits, labels)


def is_among(classes: Tensor, count: int) -> Tensor:
    """Boolean mask ``(count,)`` of the given class ids."""
    return torch.zeros(count, dtype=torch.bool, device=classes.device).index_fill_(0, classes, True)
