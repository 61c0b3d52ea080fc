"""Depth metrics, averaged over the images of a dataset."""

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
    DEPTH_METRICS,
    clean_depth,
    compute_depth_metrics,
    kb_crop_box,
    valid_depth_mask,
)
from ..utils.errors import InputError
from ..utils.files import write_png

logger = logging.getLogger(__name__)

# Values per meter in the PNGs of the KITTI benchmark; 0 marks pixels without a value.
_PNG_SCALE = 256
_PNG_RANGE = (1, 2**16 - 1)

_MAX_LISTED = 50  # names in a warning


class _Score(NamedTuple):
    metrics: dict[str, float] | None  # None without ground truth
    num_nan: int
    num_infinite: int

    @property
    def is_finite(self) -> bool:
        return self.num_nan == self.num_infinite == 0


class DepthEvaluator(DatasetEvaluator):
    """Compute `DEPTH_METRICS` per image and average them over the images.

    The dataset's metadata sets `max_depth` in meters and optionally `min_depth` (1e-3) and `crop`
    (one of `DEPTH_CROPS`, "none").
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
            dataset_name: Name of a dataset. Its dicts have "file_name" and, if there is ground
                truth, "depth_file_name" and "depth_scale". If "kb_crop" is True, predictions cover
                KITTI's benchmark frame, and the ground truth is cropped to it.
            output_dir: Folder for predictions as PNG.
            crop: Crop to score; default: the dataset's.
            save_png: Whether to write each prediction to `<output_dir>/depth/<path>.png`, where
                the path is the image's below the folder that all images share.

        Raises:
            InputError: The metadata has no `max_depth`, the crop is unknown, or there is no folder
                for the PNGs.
        """
        metadata = MetadataCatalog.get(dataset_name)
        self.dataset_name = dataset_name
        self.max_depth = metadata.get("max_depth", None)
        if self.max_depth is None:
            raise InputError(f"metadata of dataset {dataset_name!r} has no max_depth (in meters)")
        self.min_depth = metadata.get("min_depth", 1e-3)
        self.crop = crop or metadata.get("crop", "none")
        if self.crop not in DEPTH_CROPS:
            raise InputError(
                f"depth crop of dataset {dataset_name!r} is {self.crop!r}, expected one of "
                f"{DEPTH_CROPS} (metadata, or TEST.DEPTH_EVAL.CROP)"
            )
        if save_png and not output_dir:
            raise InputError("an output_dir is needed to write predictions as PNG")
        self.png_dir = Path(output_dir, "depth") if save_png and output_dir else None
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
            MissingFileError: A ground truth file is missing.
            InputError: A ground truth file cannot be read or has another size than the prediction.
        """
        for item, output in zip(inputs, outputs, strict=True):
            depth, num_nan, num_infinite = clean_depth(
                output["depth"].float().cpu().numpy(),
                min_depth=self.min_depth,
                max_depth=self.max_depth,
            )
            metrics = self._compute_metrics(item, depth) if "depth_file_name" in item else None
            self._scores[item["file_name"]] = _Score(metrics, num_nan, num_infinite)
            if self.png_dir is not None:
                name = os.path.relpath(item["file_name"], self._image_root)
                pixels = np.rint(depth * _PNG_SCALE).clip(*_PNG_RANGE).astype(np.uint16)
                write_png(pixels, (self.png_dir / name).with_suffix(".png"))

    def evaluate(self) -> OrderedDict | None:
        """Average the metrics over the images of all processes.

        Returns:
            {"depth": metrics} on the main process, None on others. Besides `DEPTH_METRICS`, the
            metrics count "images" that were scored, "images_without_truth" that have no pixel to
            score, and "images_not_finite" whose predictions contain NaN or infinity.
        """
        gathered = comm.gather(self._scores)
        if not comm.is_main_process():
            return None
        # Samplers repeat images to give every process the same number.
        scores = {name: score for part in gathered for name, score in part.items()}
        _warn(scores, self.min_depth, self.max_depth)
        scored = [score.metrics for score in scores.values() if score.metrics is not None]
        means = {
            name: sum(metrics[name] for metrics in scored) / len(scored) if scored else np.nan
            for name in DEPTH_METRICS
        }
        counts = {
            "images": len(scored),
            "images_without_truth": len(scores) - len(scored),
            "images_not_finite": sum(not score.is_finite for score in scores.values()),
        }
        return OrderedDict({"depth": means | counts})

    def _compute_metrics(self, item: dict, depth: np.ndarray) -> dict[str, float] | None:
        target = _read_target(item)
        if depth.shape != target.shape:
            cropped = ", cropped" if item.get("kb_crop", False) else ""
            raise InputError(
                f"depth file {item['depth_file_name']} is {_size(target)} (height x width"
                f"{cropped}), the prediction for {item['file_name']} is {_size(depth)}"
            )
        mask = valid_depth_mask(
            target, crop=self.crop, min_depth=self.min_depth, max_depth=self.max_depth
        )
        return compute_depth_metrics(depth, target, mask) if mask.any() else None


def _read_target(item: dict) -> np.ndarray:
    target = read_depth(item["depth_file_name"], item["depth_scale"])
    if not item.get("kb_crop", False):
        return target
    try:
        return target[kb_crop_box(*target.shape)]
    except InputError as error:
        raise InputError(f"depth file {item['depth_file_name']}: {error}") from error


def _size(depth: np.ndarray) -> str:
    return "x".join(map(str, depth.shape))


def _warn(scores: dict[str, _Score], min_depth: float, max_depth: float) -> None:
    """Log the names of images that are not scored or whose predictions are not finite."""
    without_truth = sorted(name for name, score in scores.items() if score.metrics is None)
    if without_truth:
        logger.warning(
            "%d images have no pixel with ground truth to score and are left out: %s",
            len(without_truth),
            _list(without_truth),
        )
    not_finite = [
        f"{name} ({score.num_nan} NaN, {score.num_infinite} infinite)"
        for name, score in sorted(scores.items())
        if not score.is_finite
    ]
    if not_finite:
        logger.warning(
            "predictions of %d images are not finite; NaN is scored as %g m, infinity as %g m: %s",
            len(not_finite),
            min_depth,
            max_depth,
            _list(not_finite),
        )


def _list(names: list[str]) -> str:
    rest = len(names) - _MAX_LISTED
    return ", ".join(names[:_MAX_LISTED]) + (f" and {rest} more" if rest > 0 else "")
