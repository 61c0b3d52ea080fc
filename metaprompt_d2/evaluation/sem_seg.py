"""Detectron2's segmentation figures, with ground truth that is checked, a table and a picture."""

import logging
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import SemSegEvaluator
from detectron2.utils import comm
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from tabulate import tabulate

from ..data.readers import read_checked_labels
from ..utils.errors import InputError
from ..utils.files import atomic_write
from .boundary_iou import BoundaryIoU

__all__ = ["CheckedSemSegEvaluator", "write_confusion_matrix"]

logger = logging.getLogger(__name__)

_MAX_WITH_NUMBERS = 30  # classes; numbers in more cells cannot be read


class CheckedSemSegEvaluator(SemSegEvaluator):
    """`SemSegEvaluator` that names a label file which doesn't fit, instead of miscounting.

    Its figures have Detectron2's names and values, but for Boundary IoU: see `BoundaryIoU`.
    """

    def __init__(
        self, dataset_name: str, *, output_dir: str | None = None, confusion_matrix: bool = False
    ):
        """
        Args:
            dataset_name: with "stuff_classes" and "ignore_label" in its metadata.
            output_dir: for predictions as RLE and the figures.
            confusion_matrix: draw it to `<output_dir>/confusion_matrix.png`.

        Raises:
            InputError: a dataset without these or without ground truth, or a picture without a
                folder.
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
        self._compute_boundary_iou = False  # Detectron2's own
        self.confusion_matrix = confusion_matrix

    def reset(self) -> None:
        super().reset()
        self._boundary_iou = BoundaryIoU(self._num_classes)

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """
        Raises:
            InputError: outputs of other classes than the dataset's, or ground truth of another
                size than the image or with unknown ids.
        """
        side = self._num_classes + 1
        for item, output in zip(inputs, outputs, strict=True):
            if len(output["sem_seg"]) != self._num_classes:
                raise InputError(
                    f"the model has {len(output['sem_seg'])} classes, dataset "
                    f"{self._dataset_name!r} {self._num_classes}"
                )
            predicted = output["sem_seg"].argmax(dim=0).cpu().numpy()
            truth = self._ground_truth(item)
            pairs = np.bincount((side * predicted + truth).ravel(), minlength=side**2)
            self._conf_matrix += pairs.reshape(side, side)
            self._boundary_iou.add(predicted, truth)
            self._predictions += self.encode_json_sem_seg(predicted, item["file_name"])

    def evaluate(self) -> OrderedDict | None:
        """As in `SemSegEvaluator`; logs a table of the classes.

        Returns:
            {"sem_seg": {"mIoU", "fwIoU", "mACC", "pACC", "IoU-<class>", "BoundaryIoU-<class>",
            ...}} in percent on the main process, None on others.
        """
        counts = comm.gather(self._boundary_iou.counts)
        results = super().evaluate()
        if results is None:
            return None
        self._boundary_iou.counts = np.sum(counts, axis=0)
        self._add_boundary_iou(results["sem_seg"])
        logger.info("%s:\n%s", self._dataset_name, _table(results["sem_seg"], self._class_names))
        if self.confusion_matrix:
            file = os.path.join(self._output_dir, "confusion_matrix.png")
            write_confusion_matrix(self._conf_matrix[:-1, :-1].T, self._class_names, file)
            logger.info("Confusion matrix: %s", file)
        return results

    def _ground_truth(self, item: dict) -> np.ndarray:
        """(H, W) class ids; K where there is none."""
        labels = read_checked_labels(
            item | {"sem_seg_file_name": self.input_file_to_gt_file[item["file_name"]]},
            (item["height"], item["width"]),
            num_classes=self._num_classes,
            ignore_value=self._ignore_label,
        )
        labels = labels.astype(np.int32)
        labels[labels == self._ignore_label] = self._num_classes
        return labels

    def _add_boundary_iou(self, figures: dict[str, float]) -> None:
        """Under Detectron2's names, to the figures and their file."""
        for name, value in zip(self._class_names, self._boundary_iou.figures(), strict=True):
            figures[f"BoundaryIoU-{name}"] = 100 * value
            figures[f"min(IoU, B-Iou)-{name}"] = min(figures[f"IoU-{name}"], 100 * value)
        if self._output_dir:
            file = os.path.join(self._output_dir, "sem_seg_evaluation.pth")
            atomic_write(file, lambda stream: torch.save(figures, stream))


def _table(figures: Mapping[str, float], classes: Sequence[str]) -> str:
    """IoU, boundary IoU and accuracy of every class, and what sums them up."""
    columns = ("IoU", "BoundaryIoU", "ACC")
    values = np.array([[figures[f"{column}-{name}"] for column in columns] for name in classes])
    boundary = values[np.isfinite(values[:, 1]), 1]
    mean_boundary = boundary.mean() if len(boundary) else np.nan
    rows = [
        *zip(classes, *values.T, strict=True),
        ("mean", figures["mIoU"], mean_boundary, figures["mACC"]),
        ("by pixels", figures["fwIoU"], np.nan, figures["pACC"]),
    ]
    return tabulate(
        [[None if value != value else value for value in row] for row in rows],  # NaN: no figure
        ("class", "IoU", "boundary IoU", "accuracy"),
        floatfmt=".2f",
        missingval="-",
        tablefmt="simple",
    )


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
    atomic_write(file, lambda stream: figure.savefig(stream, format="png", dpi=120))
