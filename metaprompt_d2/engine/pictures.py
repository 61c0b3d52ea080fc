"""Pictures of a test set's first predictions, drawn while it is evaluated."""

import logging
import os

from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from PIL import Image

from ..reading import read_image, read_labels
from ..visualization import compare_sem_seg, stack_rows

__all__ = ["PictureWriter"]

logger = logging.getLogger(__name__)


class PictureWriter(DatasetEvaluator):
    """Writes `<output_dir>/pictures.png`: image, ground truth and prediction, a row an image."""

    def __init__(self, dataset_name: str, output_dir: str, num_pictures: int):
        """
        Args:
            dataset_name: for names and colours of classes.
            output_dir: made if missing.
            num_pictures: images to draw; in several processes, the main process's first ones.
        """
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
            if len(self._rows) < self.num_pictures and "sem_seg" in output:
                truth = item.get("sem_seg_file_name")
                row = compare_sem_seg(
                    read_image(item["file_name"], "RGB"),
                    output["sem_seg"].argmax(dim=0).cpu().numpy(),
                    None if truth is None else read_labels(truth),
                    self.metadata,
                )
                self._rows.append(row)

    def evaluate(self) -> None:
        """Write the file; there are no figures."""
        if not self._rows:
            return
        os.makedirs(self.output_dir, exist_ok=True)
        file = os.path.join(self.output_dir, "pictures.png")
        Image.fromarray(stack_rows(self._rows)).save(file)
        logger.info("Pictures of %d predictions: %s", len(self._rows), file)
