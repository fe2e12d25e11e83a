"""Figure of training memory by part: counted as a paper counts, printed, and measured."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure


def memory_by_part(parts: pd.DataFrame, totals: pd.DataFrame) -> tuple[Figure, pd.DataFrame]:
    """Stacked bars of `parts` (row, part, mib), and a mark for each line of `totals` (row, source, mib), in MiB."""
    rows = list(parts["row"].unique())
    figure, ax = plt.subplots(figsize=(6.6, 0.36 * len(rows) + 1.3), layout="constrained")
    y, left = -np.arange(len(rows)), np.zeros(len(rows))
    names = list(parts["part"].unique())
    for name, colour in zip(names, sns.color_palette("colorblind", len(names)), strict=True):
        lengths = parts[parts["part"] == name].set_index("row")["mib"].reindex(rows).fillna(0).to_numpy()
        ax.barh(y, lengths, left=left, color=colour, label=name)
        left += lengths
    for (source, lines), marker in zip(totals.groupby("source", sort=False), "D|o", strict=False):
        places = [-rows.index(row) for row in lines["row"]]
        look = {"markersize": 14, "markeredgewidth": 2} if marker == "|" else {"markersize": 4}
        ax.plot(lines["mib"], places, marker, color="#000000", label=source, **look)
    ax.set(xlabel="training memory (MiB)", yticks=y, yticklabels=rows)
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure, pd.concat([parts, totals], ignore_index=True)
