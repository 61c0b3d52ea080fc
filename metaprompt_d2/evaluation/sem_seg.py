"""Detectron2's segmentation figures, with ground truth that is checked, a table and a picture."""

import logging
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import numpy as np
from detectron2.data import DatasetCatalog
from detectron2.evaluation import SemSegEvaluator
from tabulate import tabulate

from ..reading import check_labels, read_labels
from .confusion_matrix import write_confusion_matrix

__all__ = ["CheckedSemSegEvaluator"]

logger = logging.getLogger(__name__)


class CheckedSemSegEvaluator(SemSegEvaluator):
    """`SemSegEvaluator` that names a label file which doesn't fit, instead of miscounting."""

    def __init__(
        self, dataset_name: str, *, output_dir: str | None = None, confusion_matrix: bool = False
    ):
        """
        Args:
            dataset_name: with "stuff_classes" and "ignore_label" in its metadata.
            output_dir: for predictions as RLE and the figures.
            confusion_matrix: draw it to `<output_dir>/confusion_matrix.png`.

        Raises:
            ValueError: a dataset without ground truth, or a picture without a folder.
        """
        if not all("sem_seg_file_name" in item for item in DatasetCatalog.get(dataset_name)):
            raise ValueError(
                f"dataset {dataset_name!r} has no ground truth to score with; "
                "tools/predict_dataset.py writes its predictions"
            )
        if confusion_matrix and not output_dir:
            raise ValueError("an output_dir is needed to draw the confusion matrix")
        super().__init__(
            dataset_name, output_dir=output_dir, sem_seg_loading_fn=self._load_ground_truth
        )
        self.confusion_matrix = confusion_matrix
        self._input: dict = {}

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """
        Raises:
            ValueError: ground truth of another size than the image or with unknown ids.
        """
        for item, output in zip(inputs, outputs, strict=True):
            self._input = item
            super().process([item], [output])

    def evaluate(self) -> OrderedDict | None:
        """As in `SemSegEvaluator`; logs a table of the classes.

        Returns:
            {"sem_seg": {"mIoU", "fwIoU", "mACC", "pACC", "IoU-<class>", "BoundaryIoU-<class>",
            ...}} in percent on the main process, None on others.
        """
        results = super().evaluate()
        if results is None:
            return None
        logger.info("%s:\n%s", self._dataset_name, _table(results["sem_seg"], self._class_names))
        if self.confusion_matrix:
            file = os.path.join(self._output_dir, "confusion_matrix.png")
            write_confusion_matrix(self._conf_matrix[:-1, :-1].T, self._class_names, file)
            logger.info("Confusion matrix: %s", file)
        return results

    def _load_ground_truth(self, file_name: str, dtype: type) -> np.ndarray:
        labels = read_labels(file_name)
        check_labels(
            labels,
            (self._input["height"], self._input["width"]),
            num_classes=self._num_classes,
            ignore_value=self._ignore_label,
            label_file=file_name,
            image_file=self._input["file_name"],
        )
        return labels.astype(dtype)


def _table(figures: Mapping[str, float], classes: Sequence[str]) -> str:
    """IoU, boundary IoU and accuracy of every class, and what sums them up."""
    columns = ("IoU", "BoundaryIoU", "ACC")
    rows = [
        [name, *(figures.get(f"{column}-{name}", np.nan) for column in columns)] for name in classes
    ]
    boundary = [row[2] for row in rows]
    known = [value for value in boundary if np.isfinite(value)]
    mean_boundary = sum(known) / len(known) if known else np.nan
    rows.append(["mean", figures["mIoU"], mean_boundary, figures["mACC"]])
    rows.append(["by pixels", figures["fwIoU"], np.nan, figures["pACC"]])
    return tabulate(
        rows,
        ("class", "IoU", "boundary IoU", "accuracy"),
        floatfmt=".2f",
        missingval="-",
        tablefmt="simple",
    )
