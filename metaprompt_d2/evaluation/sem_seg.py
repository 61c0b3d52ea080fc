"""Detectron2's segmentation figures, with ground truth that is checked."""

import numpy as np
from detectron2.evaluation import SemSegEvaluator

from ..reading import check_labels, read_labels

__all__ = ["CheckedSemSegEvaluator"]


class CheckedSemSegEvaluator(SemSegEvaluator):
    """`SemSegEvaluator` that names a label file which doesn't fit, instead of miscounting."""

    def __init__(self, dataset_name: str, *, output_dir: str | None = None):
        """
        Args:
            dataset_name: with "stuff_classes" and "ignore_label" in its metadata.
            output_dir: for predictions as RLE and the figures.
        """
        super().__init__(
            dataset_name, output_dir=output_dir, sem_seg_loading_fn=self._load_ground_truth
        )
        self._input: dict = {}

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """
        Raises:
            ValueError: ground truth of another size than the image or with unknown ids.
        """
        for item, output in zip(inputs, outputs, strict=True):
            self._input = item
            super().process([item], [output])

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
