"""Depth figures by image, averaged over the images."""

import logging
import os
from collections import OrderedDict
from pathlib import Path
from typing import NamedTuple

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from ..data.readers import read_depth
from ..metrics import (
    DEPTH_CROPS,
    DEPTH_FIGURES,
    clean_depth,
    depth_figures,
    kb_crop_box,
    valid_depth_mask,
)
from ..utils.errors import InputError
from ..utils.files import write_png

__all__ = ["DepthEvaluator"]

logger = logging.getLogger(__name__)

# What a PNG of the KITTI benchmark holds for one metre; its 0 stands for no value.
_PNG_SCALE = 256
_PNG_RANGE = (1, 2**16 - 1)

_SHOWN = 50  # names in a warning


class _Score(NamedTuple):
    """Of one image: `depth_figures`, None without ground truth, and pixels of no number."""

    figures: dict[str, float] | None
    num_nan: int
    num_infinite: int

    @property
    def is_broken(self) -> bool:
        return self.num_nan > 0 or self.num_infinite > 0


class DepthEvaluator(DatasetEvaluator):
    """Mean over images of the figures of method section 2.8, each image counted once.

    The dataset's metadata says how: `max_depth` in metres, and optionally `min_depth` (1e-3) and
    `crop` (one of `DEPTH_CROPS`, "none").
    """

    def __init__(
        self,
        dataset_name: str,
        *,
        output_dir: str | None = None,
        crop: str | None = None,
        save_png: bool = False,
    ):
        """
        Args:
            dataset_name: its items have "file_name" and, unless they are without ground truth,
                "depth_file_name" and "depth_scale"; where "kb_crop" is true, predictions are those
                of KITTI's benchmark frame, to which the ground truth is cropped.
            output_dir: for predictions as PNG.
            crop: instead of the dataset's.
            save_png: write `<output_dir>/depth/<path of the image>.png`, the path below the folder
                that all images of the dataset share.

        Raises:
            InputError: metadata without `max_depth`, an unknown crop, or no folder for PNGs.
        """
        metadata = MetadataCatalog.get(dataset_name)
        self.dataset_name = dataset_name
        self.max_depth = metadata.get("max_depth", None)
        if self.max_depth is None:
            raise InputError(f"metadata of dataset {dataset_name!r} has no max_depth (in metres)")
        self.min_depth = metadata.get("min_depth", 1e-3)
        self.crop = crop or metadata.get("crop", "none")
        if self.crop not in DEPTH_CROPS:
            raise InputError(
                f"depth crop of dataset {dataset_name!r} is {self.crop!r}, expected one of "
                f"{DEPTH_CROPS} (metadata, or TEST.DEPTH_EVAL.CROP)"
            )
        if save_png and not output_dir:
            raise InputError("an output_dir is needed to write predictions as PNG")
        self.png_dir = Path(output_dir) / "depth" if save_png else None
        self._image_root = ""
        self._scores: dict[str, _Score] = {}

    def reset(self) -> None:
        self._scores = {}
        if self.png_dir is not None:
            items = DatasetCatalog.get(self.dataset_name)
            self._image_root = os.path.commonpath(
                [os.path.dirname(item["file_name"]) for item in items]
            )

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """
        Raises:
            FileNotFoundError: a file of ground truth that is missing.
            InputError: ground truth that cannot be read, or of another size than the prediction.
        """
        for item, output in zip(inputs, outputs, strict=True):
            depth, num_nan, num_infinite = clean_depth(
                output["depth"].float().cpu().numpy(),
                min_depth=self.min_depth,
                max_depth=self.max_depth,
            )
            figures = self._figures(item, depth) if "depth_file_name" in item else None
            self._scores[item["file_name"]] = _Score(figures, num_nan, num_infinite)
            if self.png_dir is not None:
                write_png(_to_png(depth), self._png_file(item["file_name"]))

    def evaluate(self) -> OrderedDict | None:
        """
        Returns:
            {"depth": `DEPTH_FIGURES`, and "images" that were scored, "images_without_truth" that
            have no pixel to score, "images_not_finite" whose prediction holds NaN or infinity}, on
            the main process; None on others.
        """
        gathered = comm.gather(self._scores)
        if not comm.is_main_process():
            return None
        # Samplers repeat images to fill up processes.
        scores = {name: score for part in gathered for name, score in part.items()}
        _warn(scores, self.min_depth, self.max_depth)
        scored = [score.figures for score in scores.values() if score.figures is not None]
        means = {
            name: sum(figures[name] for figures in scored) / len(scored) if scored else np.nan
            for name in DEPTH_FIGURES
        }
        counts = {
            "images": len(scored),
            "images_without_truth": len(scores) - len(scored),
            "images_not_finite": sum(score.is_broken for score in scores.values()),
        }
        return OrderedDict({"depth": means | counts})

    def _figures(self, item: dict, depth: np.ndarray) -> dict[str, float] | None:
        target = _ground_truth(item)
        if depth.shape != target.shape:
            cropped = ", cropped" if item.get("kb_crop", False) else ""
            raise InputError(
                f"depth file {item['depth_file_name']} is {_size(target)} (height x width"
                f"{cropped}), the prediction for {item['file_name']} is {_size(depth)}"
            )
        mask = valid_depth_mask(
            target, crop=self.crop, min_depth=self.min_depth, max_depth=self.max_depth
        )
        return depth_figures(depth, target, mask) if mask.any() else None

    def _png_file(self, image_file: str) -> Path:
        relative = os.path.relpath(image_file, self._image_root)
        return (self.png_dir / relative).with_suffix(".png")


def _ground_truth(item: dict) -> np.ndarray:
    target = read_depth(item["depth_file_name"], item["depth_scale"])
    if not item.get("kb_crop", False):
        return target
    try:
        return target[kb_crop_box(*target.shape)]
    except ValueError as error:
        raise InputError(f"depth file {item['depth_file_name']}: {error}") from error


def _size(depth: np.ndarray) -> str:
    return "x".join(map(str, depth.shape))


def _warn(scores: dict[str, _Score], min_depth: float, max_depth: float) -> None:
    """Name the images that are left out or that were cleaned."""
    without_truth = sorted(name for name, score in scores.items() if score.figures is None)
    if without_truth:
        logger.warning(
            "%d images have no pixel with ground truth to score and are left out: %s",
            len(without_truth),
            _listed(without_truth),
        )
    broken = [
        f"{name} ({score.num_nan} NaN, {score.num_infinite} infinite)"
        for name, score in sorted(scores.items())
        if score.is_broken
    ]
    if broken:
        logger.warning(
            "predictions of %d images are not finite; NaN is scored as %g m, infinity as %g m: %s",
            len(broken),
            min_depth,
            max_depth,
            _listed(broken),
        )


def _listed(names: list[str]) -> str:
    shown, rest = names[:_SHOWN], len(names) - _SHOWN
    return ", ".join(shown) + (f" and {rest} more" if rest > 0 else "")


def _to_png(depth: np.ndarray) -> np.ndarray:
    """Convert metres to the 16-bit values of KITTI's PNG files."""
    return np.rint(depth * _PNG_SCALE).clip(*_PNG_RANGE).astype(np.uint16)
