"""A confusion matrix as a picture."""

import os
from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

__all__ = ["write_confusion_matrix"]

_MAX_WITH_NUMBERS = 30  # classes; numbers in more cells cannot be read


def write_confusion_matrix(counts: np.ndarray, classes: Sequence[str], file: str) -> None:
    """Draw which share of each true class was predicted as what.

    Args:
        counts: (K, K) pixels, rows: true class, columns: predicted class.
        classes: K names.
        file: .png to write, whole or not at all.
    """
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    side = 3 + 0.35 * len(classes)
    figure = Figure(figsize=(side, side), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    image = axes.imshow(shares, vmin=0, vmax=1, cmap="Blues")
    figure.colorbar(image, ax=axes, shrink=0.7, label="share of the true class")
    ticks = range(len(classes))
    axes.set_xticks(ticks, classes, rotation=90, fontsize=8)
    axes.set_yticks(ticks, classes, fontsize=8)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if len(classes) <= _MAX_WITH_NUMBERS:
        for (row, column), share in np.ndenumerate(shares):
            if share >= 0.005:
                color = "white" if share > 0.5 else "black"
                text = f"{100 * share:.0f}"
                axes.text(column, row, text, ha="center", va="center", color=color, fontsize=6)
    temporary = f"{file}.tmp"
    figure.savefig(temporary, format="png", dpi=120)
    os.replace(temporary, file)
