"""Depth metrics, averaged over the images of a dataset."""

import logging
from collections import OrderedDict
from pathlib import Path

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
    depth_crop_mask,
    kb_crop_box,
    valid_depth_mask,
)
from ..utils.errors import InputError
from ..utils.files import path_inside, png_names, write_png
from .not_finite import warn_of

logger = logging.getLogger(__name__)

# Values per meter in the PNGs of the KITTI benchmark; 0 marks pixels without a value.
_PNG_SCALE = 256
_PNG_RANGE = (1, 2**16 - 1)
_NYU_FRAME = (480, 640)  # that the crop "nyu" is made for


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
        crop: str = "",
        save_png: bool = False,
    ):
        """
        Args:
            dataset_name: Name of a dataset. Its dicts have "file_name" and, if there is ground
                truth, "depth_file_name" and "depth_scale". If "kb_crop" is True, predictions cover
                KITTI's benchmark frame, and the ground truth is cropped to it.
            crop: Crop to score; "" for the one of the dataset.
            output_dir, save_png: Whether to write predictions as PNG to `<output_dir>/depth`, in
                the subfolders of the images.

        Raises:
            InputError: `max_depth` is missing, the crop is unknown, or the PNGs have no folder.
        """
        metadata = MetadataCatalog.get(dataset_name)
        self.dataset_name = dataset_name
        max_depth = metadata.get("max_depth", None)
        if max_depth is None:
            raise InputError(f"metadata of dataset {dataset_name!r} has no max_depth (in meters)")
        self._limits = {"min_depth": metadata.get("min_depth", 1e-3), "max_depth": max_depth}
        self.crop = crop or metadata.get("crop", "none")
        if self.crop not in DEPTH_CROPS:
            raise InputError(
                f"depth crop of dataset {dataset_name!r} is {self.crop!r}, expected one of "
                f"{DEPTH_CROPS} (metadata, or TEST.DEPTH_EVAL.CROP)"
            )
        if save_png and not output_dir:
            raise InputError("an output_dir is needed to write predictions as PNG")
        self.png_dir = Path(output_dir, "depth") if save_png and output_dir else None

    def reset(self) -> None:
        """
        Raises:
            InputError: The PNGs of two images would have the same name.
        """
        self._metrics: dict[str, dict[str, float] | None] = {}  # None without ground truth
        self._not_finite: dict[str, str] = {}
        self._beyond: dict[str, str] = {}  # what the PNGs cannot hold
        self._scaled: set[tuple[int, int]] = set()  # sizes that the crop was scaled to
        if self.png_dir is not None:
            files = [item["file_name"] for item in DatasetCatalog.get(self.dataset_name)]
            self._names = png_names(files)

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """
        Raises:
            InputError: A ground truth file is missing (`MissingFileError`), cannot be read or has
                another size than the prediction.
        """
        for item, output in zip(inputs, outputs, strict=True):
            name, pred = item["file_name"], output["depth"].float().cpu().numpy()
            depth, num_nan, num_infinite = clean_depth(pred, **self._limits)
            self._metrics[name] = self._compute_metrics(item, depth)
            if num_nan or num_infinite:
                self._not_finite[name] = f"{num_nan} NaN, {num_infinite} infinite"
            if self.png_dir is not None:
                file = path_inside(self.png_dir, self._names[name])
                values = np.rint(depth * _PNG_SCALE)
                write_png(values.clip(*_PNG_RANGE).astype(np.uint16), file)
                if beyond := int((values > _PNG_RANGE[1]).sum()):
                    self._beyond[name] = f"{beyond} pixels"

    def evaluate(self) -> OrderedDict | None:
        """Average the metrics over the images of all processes.

        Returns:
            {"depth": metrics} on the main process, None on others. Besides `DEPTH_METRICS`, the
            metrics count "images" that were scored, "images_without_truth" that have no pixel to
            score, and "images_not_finite" whose predictions contain NaN or infinity.
        """
        gathered = comm.gather((self._metrics, self._not_finite, self._beyond))
        if not comm.is_main_process():
            return None
        metrics: dict[str, dict[str, float] | None] = {}
        not_finite: dict[str, str] = {}
        beyond: dict[str, str] = {}
        for part in gathered:  # samplers repeat images to give every process the same number
            metrics |= part[0]
            not_finite |= part[1]
            beyond |= part[2]
        without_truth = sorted(name for name, values in metrics.items() if values is None)
        limits = "NaN is scored as {min_depth:g} m, infinity as {max_depth:g} m"
        limits = limits.format(**self._limits)
        warn_of("images have no pixel with ground truth to score and are left out", without_truth)
        bad = [f"{name} ({counts})" for name, counts in sorted(not_finite.items())]
        warn_of(f"images have predictions that are not finite; {limits}", bad)
        deep = [f"{name} ({count})" for name, count in sorted(beyond.items())]
        limit = f"{_PNG_RANGE[1] / _PNG_SCALE:.3f} m"
        warn_of(f"images have deeper predictions than {limit}, which their PNGs hold instead", deep)
        scored = [values for values in metrics.values() if values is not None]
        means = {
            name: sum(values[name] for values in scored) / len(scored) if scored else np.nan
            for name in DEPTH_METRICS
        }
        counts = {
            "images": len(scored),
            "images_without_truth": len(without_truth),
            "images_not_finite": len(not_finite),
        }
        return OrderedDict({"depth": means | counts})

    def _compute_metrics(self, item: dict, depth: np.ndarray) -> dict[str, float] | None:
        """Score an image; None if no pixel has ground truth."""
        if "depth_file_name" not in item:
            return None
        target = read_depth(item["depth_file_name"], item["depth_scale"])
        is_cropped = item.get("kb_crop", False)
        if is_cropped:
            try:
                target = target[kb_crop_box(*target.shape)]
            except InputError as error:
                raise InputError(f"depth file {item['depth_file_name']}: {error}") from error
        if depth.shape != target.shape:
            sizes = ["x".join(map(str, values.shape)) for values in (target, depth)]
            raise InputError(
                f"depth file {item['depth_file_name']} is {sizes[0]} (height x width"
                f"{', cropped' if is_cropped else ''}), the prediction for {item['file_name']} is "
                f"{sizes[1]}"
            )
        if self.crop == "nyu" and target.shape != _NYU_FRAME:
            mask = valid_depth_mask(target, crop="none", **self._limits)
            mask &= self._scaled_nyu_crop(*target.shape)
        else:
            mask = valid_depth_mask(target, crop=self.crop, **self._limits)
        return compute_depth_metrics(depth, target, mask) if mask.any() else None

    def _scaled_nyu_crop(self, height: int, width: int) -> np.ndarray:
        """Mark the same part of a frame of another size as in NYU Depth v2's."""
        if (height, width) not in self._scaled:
            self._scaled.add((height, width))
            frame = "{}x{}".format(*_NYU_FRAME)
            logger.warning("The crop 'nyu' of %s is scaled to %dx%d", frame, height, width)
        rows, columns = (
            (2 * np.arange(size) + 1) * full // (2 * size)
            for size, full in zip((height, width), _NYU_FRAME, strict=True)
        )
        return depth_crop_mask("nyu", _NYU_FRAME)[np.ix_(rows, columns)]
