"""Pictures of a test set's first predictions, drawn while it is evaluated."""

import logging
import os

import numpy as np
from detectron2.data import Metadata, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage, has_event_storage
from PIL import Image

from ..metrics import kb_crop_box
from ..reading import read_depth, read_image, read_labels
from ..visualization import compare_depth, compare_sem_seg, stack_rows

__all__ = ["PictureWriter"]

logger = logging.getLogger(__name__)


def _sem_seg_row(item: dict, output: dict, metadata: Metadata) -> np.ndarray:
    truth = item.get("sem_seg_file_name")
    return compare_sem_seg(
        read_image(item["file_name"], "RGB"),
        output["sem_seg"].argmax(dim=0).cpu().numpy(),
        None if truth is None else read_labels(truth),
        metadata,
    )


def _depth_row(item: dict, output: dict, metadata: Metadata) -> np.ndarray:
    image = read_image(item["file_name"], "RGB")
    frame = kb_crop_box(*image.shape[:2]) if item.get("kb_crop", False) else ()
    truth = item.get("depth_file_name")
    return compare_depth(
        image[frame],
        output["depth"].float().cpu().numpy(),
        None if truth is None else read_depth(truth, item["depth_scale"])[frame],
        max_depth=metadata.max_depth,
    )


# By the key of a model's output.
_ROWS = {"depth": _depth_row, "sem_seg": _sem_seg_row}


class PictureWriter(DatasetEvaluator):
    """Writes `<output_dir>/pictures.png`: image, ground truth and prediction, a row an image.

    In a training, TensorBoard shows it, too.
    """

    def __init__(self, dataset_name: str, output_dir: str, num_pictures: int):
        """
        Args:
            dataset_name: for names and colours of classes, and the maximum depth.
            output_dir: made if missing.
            num_pictures: images to draw; in several processes, the main process's first ones.
        """
        self.dataset_name = dataset_name
        self.metadata = MetadataCatalog.get(dataset_name)
        self.output_dir = output_dir
        self.num_pictures = num_pictures
        self._rows: list = []

    def reset(self) -> None:
        self._rows = []

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        if not comm.is_main_process():
            return
        for item, output in zip(inputs, outputs, strict=True):
            task = next((key for key in _ROWS if key in output), None)
            if len(self._rows) < self.num_pictures and task is not None:
                self._rows.append(_ROWS[task](item, output, self.metadata))

    def evaluate(self) -> None:
        """Write the file; there are no figures."""
        if not self._rows:
            return
        os.makedirs(self.output_dir, exist_ok=True)
        file = os.path.join(self.output_dir, "pictures.png")
        pictures = stack_rows(self._rows)
        Image.fromarray(pictures).save(file)
        if has_event_storage():
            name = f"{self.dataset_name}/pictures"
            get_event_storage().put_image(name, pictures.transpose(2, 0, 1))
        logger.info("Pictures of %d predictions: %s", len(self._rows), file)
