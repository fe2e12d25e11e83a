"""Figures of the papers' items at the size of a paper column, each returned with the points it draws."""

from sparcl_lite.drawing import colour_of, save, use_style
from sparcl_lite.papers.clfd.figures import pareto, with_and_without
from sparcl_lite.papers.sparcl.figures import (
    ablation,
    accuracy_by_flops,
    accuracy_by_sparsity,
    all_methods,
    sparse_rivals,
)
from sparcl_lite.report.figures.claims import effects
from sparcl_lite.report.figures.generalizability import generalizability
from sparcl_lite.report.figures.memory import memory_by_part
from sparcl_lite.report.figures.runs import (
    accuracy_matrices,
    easiest_and_hardest,
    mask_survival,
    removed_samples,
    survival_by_layer,
    training_trace,
)
from sparcl_lite.report.figures.speed import acceleration, speed_by_sparsity, speed_by_width, time_by_part
from sparcl_lite.report.figures.studies import against_each, one_at_a_time, removal

__all__ = [
    "ablation",
    "acceleration",
    "accuracy_by_flops",
    "accuracy_by_sparsity",
    "accuracy_matrices",
    "against_each",
    "all_methods",
    "colour_of",
    "easiest_and_hardest",
    "effects",
    "generalizability",
    "mask_survival",
    "memory_by_part",
    "one_at_a_time",
    "pareto",
    "removal",
    "removed_samples",
    "save",
    "sparse_rivals",
    "speed_by_sparsity",
    "speed_by_width",
    "survival_by_layer",
    "time_by_part",
    "training_trace",
    "use_style",
    "with_and_without",
]
