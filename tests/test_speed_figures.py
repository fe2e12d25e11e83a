"""Figures of speed and memory draw every point they are given."""

import matplotlib.pyplot as plt
import pandas as pd

from sparcl_lite.report import figures


def test_acceleration_draws_a_circle_a_row_with_memory_as_its_area():
    rows = [("der++", "DER++", 1.0, 70.0, 4e6), ("sparcl", "SparCL 0.95", 3.0, 68.0, 1e6)]
    points = pd.DataFrame(rows, columns=["kind", "label", "acceleration", "class_il", "memory"])
    figure, drawn = figures.acceleration(points)
    areas = [circles.get_sizes()[0] for circles in figure.axes[0].collections]
    assert areas[0] == 4 * areas[1]
    assert drawn.equals(points)
    plt.close(figure)


def test_speed_by_sparsity_draws_a_line_a_network():
    points = pd.DataFrame({"network": ["a", "a", "b"], "sparsity": [0.5, 0.9, 0.9], "speedup": [0.8, 2.0, 1.5]})
    figure, _ = figures.speed_by_sparsity(points)
    lines = {line.get_label(): list(line.get_ydata()) for line in figure.axes[0].get_lines()}
    assert (lines["a"], lines["b"]) == ([0.8, 2.0], [1.5])
    plt.close(figure)


def test_speed_by_width_draws_a_line_a_sparsity_in_order_of_width():
    points = pd.DataFrame({"width": [64, 16, 16], "sparsity": [0.9, 0.9, 0.5], "speedup": [2.5, 2.0, 1.1]})
    figure, _ = figures.speed_by_width(points)
    lines = {line.get_label(): list(line.get_ydata()) for line in figure.axes[0].get_lines()}
    assert (lines["90% zeros"], lines["50% zeros"]) == ([2.0, 2.5], [1.1])
    plt.close(figure)


def test_time_by_part_stacks_the_parts_of_each_engine():
    points = pd.DataFrame({"engine": ["dense"] * 2 + ["sparse"] * 2, "part": ["a", "b"] * 2, "ms": [3.0, 1, 2, 1]})
    figure, _ = figures.time_by_part(points)
    ends = sorted(bar.get_x() + bar.get_width() for bars in figure.axes[0].containers for bar in bars)
    assert ends == [2, 3, 3, 4]
    assert {text.get_text() for text in figure.axes[0].texts} == {"4 ms", "3 ms"}
    plt.close(figure)


def test_memory_by_part_stacks_parts_and_marks_totals():
    parts = pd.DataFrame({"row": ["a", "a", "b"], "part": ["weights", "maps", "weights"], "mib": [1.0, 2.0, 4.0]})
    totals = pd.DataFrame({"row": ["a", "b"], "source": ["printed", "measured"], "mib": [3.5, 5.0]})
    figure, drawn = figures.memory_by_part(parts, totals)
    (ax,) = figure.axes
    ends = sorted(bar.get_x() + bar.get_width() for bars in ax.containers for bar in bars)
    assert ends == [1, 3, 4, 4]
    marks = {line.get_label(): list(line.get_xdata()) for line in ax.get_lines()}
    assert marks == {"printed": [3.5], "measured": [5.0]}
    assert len(drawn) == 5
    plt.close(figure)
