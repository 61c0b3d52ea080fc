"""How the time of a prediction grows with pixels, steps, images and prompts, one at a time."""

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from detectron2.config import CfgNode

from metaprompt_d2.engine import load_model

from .measure import Workload, measure
from .variants import Variant

__all__ = ["Curve", "Point", "curves", "measure_sweep", "points_by_axis"]

_GRID = 64  # pixels; the UNet's maps are those of the next multiple


@dataclass(frozen=True)
class Point:
    """What the time of a prediction depends on.

    Attributes:
        size: (height, width) of the images.
        steps: Number of refinement steps.
        images: Number of images in a batch.
        prompts: Number of prompts.
    """

    size: tuple[int, int]
    steps: int
    images: int
    prompts: int

    @property
    def pixels(self) -> int:
        return math.prod(self.size)


@dataclass(frozen=True)
class Curve:
    """Fitted seconds per image: `start + rate * x`, or `start * x**rate` for a power law.

    Steps are a sum, because each adds the same work to encoder and head. The others are power laws.
    """

    axis: str
    start: float
    rate: float

    @classmethod
    def fit(cls, axis: str, values: Sequence[int], seconds: Sequence[float | None]) -> "Curve":
        """Fit by least squares, power laws in logarithms; NaN if fewer than two values ran."""
        ran = [(x, y) for x, y in zip(values, seconds, strict=True) if y is not None]
        if len(ran) < 2:
            return cls(axis, math.nan, math.nan)
        pairs = np.array(ran)
        rate, start = np.polyfit(*(pairs if axis == "steps" else np.log(pairs)).T, 1)
        return cls(axis, float(start if axis == "steps" else np.exp(start)), float(rate))

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return self.start + self.rate * x if self.axis == "steps" else self.start * x**self.rate

    def __str__(self) -> str:
        if math.isnan(self.rate):
            return "?"
        if self.axis == "steps":
            return f"{self.start:.3g} + {self.rate:.3g} steps"
        return f"{self.axis}^{self.rate:.2f}"


def points_by_axis(cfg: CfgNode, largest: tuple[int, int]) -> dict[str, list[Point]]:
    """List the points to measure, by what varies.

    The others stay as in the base: the config's steps and prompts, one image, and half of the
    largest sides, so that four images have as many pixels as the largest one.

    Args:
        cfg: Config of the model.
        largest: (height, width) of the largest images. Sides are rounded to multiples of 64.
    """
    prompt = cfg.MODEL.META_PROMPT
    height, width = largest
    sizes = [(_side(height * k // 4), _side(width * k // 4)) for k in (1, 2, 3, 4)]
    base = Point(sizes[1], prompt.REFINE_STEPS, 1, prompt.NUM_PROMPTS)
    return {
        "pixels": [replace(base, size=size) for size in dict.fromkeys(sizes)],
        "steps": [replace(base, steps=steps) for steps in (1, 2, 3, 4)],
        "images": [replace(base, images=images) for images in (1, 2, 4)],
        "prompts": [replace(base, prompts=times * base.prompts) for times in (1, 2, 4)],
    }


def _side(pixels: int) -> int:
    return max(pixels // _GRID, 1) * _GRID


def measure_sweep(
    cfg: CfgNode, variants: Sequence[Variant], largest: tuple[int, int], rounds: int
) -> dict[str, list[dict]]:
    """Measure variants with random weights at the points of every axis.

    Args:
        cfg: Config of the model.
        variants: Variants to measure.
        largest: (height, width) of the largest images.
        rounds: Turns per variant and point.

    Returns:
        By axis a dict per point with "size", "steps", "images", "prompts", "pixels" and "seconds",
        the seconds per image by variant; None if it doesn't fit into the GPU's memory.
    """
    axes = points_by_axis(cfg, largest)
    distinct = dict.fromkeys(itertools.chain.from_iterable(axes.values()))
    measured = {
        point: vars(point)
        | {"pixels": point.pixels, "seconds": _seconds(cfg, variants, point, rounds)}
        for point in distinct
    }
    return {axis: [measured[point] for point in points] for axis, points in axes.items()}


def _seconds(
    cfg: CfgNode, variants: Sequence[Variant], point: Point, rounds: int
) -> dict[str, float | None]:
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.META_PROMPT.REFINE_STEPS = point.steps
    cfg.MODEL.META_PROMPT.NUM_PROMPTS = point.prompts
    cfg.INPUT.PERSON_CROP.SIZE = point.size  # pose cuts people out in this size
    model = load_model(cfg, optimize=False, require_weights=False).eval()
    work = Workload(train=False, batch_size=point.images, size=point.size)
    results = measure(cfg, model, variants, work, rounds=rounds)
    return {r.variant.name: r.median / point.images if r.times else None for r in results}


def curves(axis: str, points: Sequence[Mapping]) -> dict[str, Curve]:
    """Fit the seconds per image of each variant along an axis of a sweep."""
    values = [point[axis] for point in points]
    return {
        name: Curve.fit(axis, values, [point["seconds"][name] for point in points])
        for name in points[0]["seconds"]
    }
