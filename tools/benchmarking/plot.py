"""The figure of a sweep."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from metaprompt_d2.utils.files import atomic_write

from .sweep import curves

__all__ = ["draw_sweep"]


def draw_sweep(sweep: Mapping[str, Sequence[Mapping]], file: Path) -> None:
    """Draw the seconds per image along every axis of a sweep, and the fitted curves, as a PNG."""
    figure = Figure(figsize=(10, 7), layout="constrained")
    panels = figure.subplots(2, 2, sharey=True)
    for panel, (axis, points) in zip(panels.flat, sweep.items(), strict=True):
        _draw_axis(panel, axis, points)
    for panel in panels[:, 0]:
        panel.set_ylabel("seconds per image")
    atomic_write(file, lambda stream: figure.savefig(stream, format="png", dpi=120))


def _draw_axis(panel: Axes, axis: str, points: Sequence[Mapping]) -> None:
    values = [point[axis] for point in points]
    labels = ["x".join(map(str, p["size"])) if axis == "pixels" else p[axis] for p in points]
    between = np.geomspace(min(values), max(values))
    for name, curve in curves(axis, points).items():
        seconds = [point["seconds"][name] for point in points]
        marks = panel.plot(values, np.array(seconds, dtype=float), "o")  # None becomes NaN
        panel.plot(between, curve(between), color=marks[0].get_color(), label=f"{name}: {curve}")
    panel.set(xscale="log", yscale="log", xlabel=axis)
    panel.set_xticks(values, labels)
    panel.set_xticks([], minor=True)
    panel.grid(alpha=0.3)
    panel.legend()
