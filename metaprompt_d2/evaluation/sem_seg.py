"""Semantic segmentation metrics, with a table of the classes and a confusion matrix."""

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import SemSegEvaluator
from detectron2.utils import comm
from matplotlib.figure import Figure
from tabulate import tabulate

from ..data.readers import read_checked_labels
from ..metrics import NO_CLASS, classify_pixels
from ..utils.errors import InputError
from ..utils.files import atomic_write
from .mask_boundary_iou import count_boundaries, mask_boundary_iou
from .not_finite import describe_not_finite, warn_of

logger = logging.getLogger(__name__)

_MAX_WITH_NUMBERS = 30  # classes; with more, the numbers in the cells are unreadable


class CheckedSemSegEvaluator(SemSegEvaluator):
    """Detectron2's `SemSegEvaluator` with checked ground truth and `mask_boundary_iou`.

    All of Detectron2's metrics keep their names and values. A label file that doesn't fit its
    image or holds unknown ids is an error that names the file, instead of a wrong count. Pixels
    whose scores are NaN or infinite have no class and are wrong wherever there is ground truth.
    """

    def __init__(
        self, dataset_name: str, *, output_dir: str | None = None, confusion_matrix: bool = False
    ):
        """
        Args:
            dataset_name: Dataset with "stuff_classes" and "ignore_label" in its metadata.
            output_dir: Folder for the predictions as RLE and the metrics.
            confusion_matrix: Whether to draw `<output_dir>/confusion_matrix.png`.

        Raises:
            InputError: Metadata, ground truth or the confusion matrix's folder is missing.
        """
        metadata = MetadataCatalog.get(dataset_name)
        for key in ("stuff_classes", "ignore_label"):
            if metadata.get(key, None) is None:
                raise InputError(f"dataset {dataset_name!r} has no {key} in its metadata")
        if not all("sem_seg_file_name" in item for item in DatasetCatalog.get(dataset_name)):
            raise InputError(
                f"dataset {dataset_name!r} has no ground truth to score with; "
                "tools/predict_dataset.py writes its predictions"
            )
        if confusion_matrix and not output_dir:
            raise InputError("an output_dir is needed to draw the confusion matrix")
        super().__init__(dataset_name, output_dir=output_dir)
        self.dataset_name = dataset_name
        self.output_dir = output_dir
        self.confusion_matrix = confusion_matrix
        self.classes: Sequence[str] = metadata.stuff_classes
        self.ignore_value: int = metadata.ignore_label

    def reset(self) -> None:
        super().reset()
        self._boundary_counts = np.zeros((3, len(self.classes)), np.int64)
        self._not_finite: dict[str, str] = {}

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """
        Raises:
            InputError: The model has another number of classes than the dataset, or a label file
                doesn't fit its image or holds unknown ids.
        """
        num_classes = len(self.classes)
        for item, output in zip(inputs, outputs, strict=True):
            found = len(output["sem_seg"])
            if found != num_classes:
                raise InputError(
                    f"the model has {found} classes, dataset {self.dataset_name!r} {num_classes}"
                )
            truth = read_checked_labels(
                item | {"sem_seg_file_name": self.input_file_to_gt_file[item["file_name"]]},
                (item["height"], item["width"]),
                num_classes=num_classes,
                ignore_value=self.ignore_value,
            ).astype(np.int32)
            self.sem_seg_loading_fn = lambda _, dtype, labels=truth: labels.astype(dtype)
            predicted = classify_pixels(output["sem_seg"])
            self._has_no_class = predicted == NO_CLASS
            if self._has_no_class.any():
                self._not_finite[item["file_name"]] = describe_not_finite(output)
                scored = np.where(self._has_no_class, (truth + 1) % num_classes, predicted)
                output = {"sem_seg": _one_hot(scored, num_classes)}
            super().process([item], [output])
            truth[truth == self.ignore_value] = num_classes
            predicted[self._has_no_class] = num_classes  # in no boundary
            self._boundary_counts += count_boundaries(predicted, truth, num_classes)

    def encode_json_sem_seg(self, sem_seg: np.ndarray, input_file_name: str) -> list[dict]:
        """Encode a label map (H, W) as RLE; pixels without a class are written as class 0."""
        sem_seg = np.where(self._has_no_class, 0, sem_seg)
        return super().encode_json_sem_seg(sem_seg, input_file_name)

    def evaluate(self) -> OrderedDict | None:
        """Compute the metrics and log a table of the classes.

        Returns:
            {"sem_seg": metrics in percent} on the main process, None on others. The metrics are
            Detectron2's "mIoU", "fwIoU", "mACC", "pACC", "IoU-<class>", ..., and
            "MaskBoundaryIoU-<class>"; "images_not_finite" counts images with NaN or infinite
            scores.
        """
        counts = comm.gather(self._boundary_counts)
        parts = comm.gather(self._not_finite)
        results = super().evaluate()
        if results is None:
            return None
        not_finite = {name: text for part in parts for name, text in part.items()}
        bad = [f"{name} ({text})" for name, text in sorted(not_finite.items())]
        warn_of("images have scores that are NaN or infinite; such pixels are scored as wrong", bad)
        metrics, boundary_iou = results["sem_seg"], mask_boundary_iou(np.sum(counts, axis=0))
        for name, value in zip(self.classes, boundary_iou, strict=True):
            metrics[f"MaskBoundaryIoU-{name}"] = 100 * value
        metrics["images_not_finite"] = len(not_finite)
        logger.info("%s:\n%s", self.dataset_name, _table(metrics, self.classes))
        absent = [name for name in self.classes if np.isnan(metrics[f"ACC-{name}"])]
        if absent:
            logger.warning(
                "dataset %r: %d of %d classes never occur in the ground truth, so they have no IoU "
                "and the means leave them out: %s",
                *(self.dataset_name, len(absent), len(self.classes), ", ".join(absent)),
            )
        if self.output_dir:
            folder = Path(self.output_dir)
            atomic_write(folder / "sem_seg_evaluation.pth", partial(torch.save, metrics))
            if self.confusion_matrix:
                file = folder / "confusion_matrix.png"
                _draw_confusion_matrix(self._conf_matrix[:-1, :-1].T, self.classes, file)
                logger.info("Confusion matrix: %s", file)
        return results


def _one_hot(classes: np.ndarray, num_classes: int) -> torch.Tensor:
    scores = torch.zeros(num_classes, *classes.shape, dtype=torch.uint8)
    return scores.scatter_(0, torch.from_numpy(classes.astype(np.int64))[None], 1)


def _table(metrics: Mapping[str, float], classes: Sequence[str]) -> str:
    """Format the IoU, mask boundary IoU and accuracy of every class, and their means."""
    columns = ("IoU", "MaskBoundaryIoU", "ACC")
    boundary = [metrics[f"MaskBoundaryIoU-{name}"] for name in classes]
    boundary = [value for value in boundary if not np.isnan(value)] or [np.nan]
    rows = [
        *([name, *(metrics[f"{column}-{name}"] for column in columns)] for name in classes),
        ("mean", metrics["mIoU"], np.mean(boundary), metrics["mACC"]),
        ("by pixels", metrics["fwIoU"], np.nan, metrics["pACC"]),
    ]
    rows = [[None if value != value else value for value in row] for row in rows]  # NaN: undefined
    titles = ("class", "IoU", "mask boundary IoU", "accuracy")
    return tabulate(rows, titles, floatfmt=".2f", missingval="-")


def _draw_confusion_matrix(counts: np.ndarray, classes: Sequence[str], file: Path) -> None:
    """Draw (K, K) numbers of pixels, rows are true classes, in percent of their row."""
    shares = 100 * counts / counts.sum(axis=1, keepdims=True).clip(min=1)
    side = 3 + 0.35 * len(classes)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, vmin=0, vmax=100, cmap="Blues")
    figure.colorbar(image, ax=axes, shrink=0.7, label="% of the true class")
    ticks = range(len(classes))
    axes.set_xticks(ticks, classes, rotation=90, fontsize=8)
    axes.set_yticks(ticks, classes, fontsize=8)
    axes.set(xlabel="predicted", ylabel="true")
    if len(classes) <= _MAX_WITH_NUMBERS:
        for row, column in np.argwhere(shares >= 0.5):
            share = shares[row, column]
            color = "white" if share > 50 else "black"
            text = f"{share:.0f}"
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=6)
    atomic_write(file, lambda stream: figure.savefig(stream, format="png", dpi=120))
