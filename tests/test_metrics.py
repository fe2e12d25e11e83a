"""Accuracy metrics against hand-computed matrices and brute force."""

import math

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sparcl_lite.measure.metrics import (
    backward_transfer,
    class_il_correct,
    final_average,
    forgetting,
    task_il_correct,
)

NAN = float("nan")

# Task 0 recovers in the last phase without reaching its first accuracy again; task 1 improves.
THREE = [
    [90.0, NAN, NAN],
    [40.0, 80.0, NAN],
    [60.0, 86.0, 70.0],
]
# The best earlier accuracy of task 0 is not the first one.
LATE_BEST = [
    [50.0, NAN, NAN],
    [75.0, 90.0, NAN],
    [45.0, 30.0, 99.0],
]
JOINT = [
    [NAN, NAN, NAN],
    [NAN, NAN, NAN],
    [92.0, 89.0, 95.0],
]


def test_final_average_by_hand():
    assert final_average(THREE) == pytest.approx((60 + 86 + 70) / 3)
    assert final_average(LATE_BEST) == pytest.approx((45 + 30 + 99) / 3)
    assert final_average(JOINT) == pytest.approx((92 + 89 + 95) / 3)


def test_forgetting_by_hand():
    # task 0: max(90, 40) - 60 = 30; task 1: 80 - 86 = -6; the last task has no earlier accuracy
    assert forgetting(THREE) == pytest.approx((30 - 6) / 2)
    # task 0: max(50, 75) - 45 = 30; task 1: 90 - 30 = 60
    assert forgetting(LATE_BEST) == pytest.approx((30 + 60) / 2)


def test_backward_transfer_by_hand():
    # task 0: 60 - 90 = -30; task 1: 86 - 80 = 6
    assert backward_transfer(THREE) == pytest.approx((-30 + 6) / 2)
    # task 0: 45 - 50 = -5; task 1: 30 - 90 = -60
    assert backward_transfer(LATE_BEST) == pytest.approx((-5 - 60) / 2)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("matrix", [JOINT, [[71.0]]], ids=["joint", "one task"])
@pytest.mark.parametrize("metric", [forgetting, backward_transfer])
def test_undefined_is_nan_without_a_warning(metric, matrix):
    assert math.isnan(metric(matrix))


def test_a_task_without_earlier_accuracy_is_not_left_out_of_the_mean():
    gap = [[90.0, NAN, NAN], [80.0, NAN, NAN], [60.0, 50.0, 70.0]]
    assert math.isnan(forgetting(gap))
    assert math.isnan(backward_transfer(gap))


def test_none_from_json_counts_as_nan():
    matrix = [[None if math.isnan(value) else value for value in row] for row in THREE]
    assert forgetting(matrix) == forgetting(THREE)


@st.composite
def accuracy_matrices(draw):
    size = draw(st.integers(2, 6))
    values = draw(hnp.arrays(float, (size, size), elements=st.floats(0, 100)))
    values[np.triu_indices(size, k=1)] = np.nan
    return values


@given(accuracy_matrices())
def test_metrics_match_loops_and_leave_their_input_alone(matrix):
    before, last = matrix.copy(), len(matrix) - 1
    drops = [max(matrix[i, j] for i in range(j, last)) - matrix[last, j] for j in range(last)]
    changes = [matrix[last, j] - matrix[j, j] for j in range(last)]
    assert forgetting(matrix) == pytest.approx(sum(drops) / last)
    assert backward_transfer(matrix) == pytest.approx(sum(changes) / last)
    assert forgetting(matrix) >= -backward_transfer(matrix) - 1e-9
    np.testing.assert_array_equal(matrix, before)


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        ([1.0, 2.0], r"matrix: got shape \(2,\), allowed is \(T, T\)"),
        (np.zeros((2, 3)), r"matrix: got shape \(2, 3\)"),
        (np.zeros((0, 0)), r"matrix: got shape \(0, 0\)"),
        ([[101.0]], "matrix: got 101.0, allowed are 0 to 100"),
        ([[-0.5]], "matrix: got -0.5"),
        ([[float("inf")]], "matrix: got inf"),
        ([[90.0, NAN], [60.0, NAN]], "matrix: got last row"),
        ([[90.0, 10.0], [60.0, 80.0]], "matrix: got 10.0 on a task not seen yet, allowed is NaN"),
    ],
)
@pytest.mark.parametrize("metric", [final_average, forgetting, backward_transfer])
def test_wrong_matrices_are_named(metric, matrix, message):
    with pytest.raises(ValueError, match=message):
        metric(matrix)


LOGITS = torch.tensor(
    [
        [3.0, 1.0, 0.0, 2.0],  # largest: 0; among {2, 3}: 3
        [0.0, 1.0, 4.0, 2.0],  # largest: 2; among {2, 3}: 2
        [0.0, 9.0, 4.0, 5.0],  # largest: 1; among {2, 3}: 3
        [-9.0, -8.0, -3.0, -1.0],  # largest: 3; negative logits must still beat the masked ones
    ]
)
LABELS = torch.tensor([3, 2, 2, 3])
TASK = torch.tensor([2, 3])


def test_class_il_and_task_il_by_hand():
    assert class_il_correct(LOGITS, LABELS).tolist() == [False, True, False, True]
    assert task_il_correct(LOGITS, LABELS, TASK).tolist() == [True, True, False, True]


@given(st.integers(0, 2**32 - 1))
def test_task_il_matches_argmax_over_the_tasks_own_columns(seed):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(16, 10, generator=generator)
    task = torch.randperm(10, generator=generator)[:3]
    labels = task[torch.randint(3, (16,), generator=generator)]
    expected = task[logits[:, task].argmax(dim=1)] == labels
    before = logits.clone()
    correct = task_il_correct(logits, labels, task)
    assert correct.dtype == torch.bool
    assert torch.equal(correct, expected)
    assert torch.equal(logits, before)
    assert not (class_il_correct(logits, labels) & ~correct).any()  # the hint never hurts


def test_an_empty_batch_has_no_correct_samples():
    assert class_il_correct(LOGITS[:0], LABELS[:0]).shape == (0,)
    assert task_il_correct(LOGITS[:0], LABELS[:0], TASK).shape == (0,)


@pytest.mark.parametrize(
    ("logits", "labels", "task", "message"),
    [
        (LOGITS[0], LABELS, TASK, r"logits: got torch.float32 of shape \(4,\)"),
        (LOGITS.long(), LABELS, TASK, "logits: got torch.int64"),
        (LOGITS, LABELS[:3], TASK, "labels: got 3, allowed are 4, one per row"),
        (LOGITS, LABELS.float(), TASK, "labels: got torch.float32"),
        (LOGITS, LABELS + 2, TASK, "labels: got 5, allowed are 0 to 3"),
        (LOGITS, LABELS, TASK + 1, "task_classes: got 4, allowed are 0 to 3"),
        (LOGITS, LABELS, TASK[:0], "task_classes: got none"),
        (LOGITS, LABELS, TASK[:1], r"labels: got 3, allowed are \[2\]"),
    ],
)
def test_wrong_tensors_are_named(logits, labels, task, message):
    with pytest.raises(ValueError, match=message):
        task_il_correct(logits, labels, task)
