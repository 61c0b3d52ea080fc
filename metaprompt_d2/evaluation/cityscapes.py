"""The official Cityscapes scorer, on any number of machines."""

import tempfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
from detectron2.evaluation import CityscapesSemSegEvaluator
from detectron2.utils import comm
from PIL import Image

from ..metrics import NO_CLASS, classify_pixels
from ..utils.files import write_png

_UNLABELED = 0  # id in files


class DistributedCityscapesSemSegEvaluator(CityscapesSemSegEvaluator):
    """Detectron2's evaluator without the need for a file system that all processes share.

    Each process writes its predictions to its own folder. The main process collects the
    (compressed) files and runs the scorer of cityscapesscripts on all of them.
    """

    def reset(self) -> None:
        self._working_dir = tempfile.TemporaryDirectory(prefix="cityscapes_eval_")
        self._temp_dir = self._working_dir.name

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Write predictions; pixels whose scores are NaN or infinite are unlabeled, thus wrong."""
        super().process(inputs, outputs)
        for item, output in zip(inputs, outputs, strict=True):
            has_no_class = classify_pixels(output["sem_seg"]) == NO_CLASS
            if has_no_class.any():
                file = Path(self._temp_dir, f"{Path(item['file_name']).stem}_pred.png")
                with Image.open(file) as image:
                    labels = np.array(image)
                labels[has_no_class] = _UNLABELED
                write_png(labels, file)

    def evaluate(self) -> OrderedDict | None:
        """Score the predictions of all processes.

        Returns:
            {"sem_seg": {"IoU", "iIoU", "IoU_sup", "iIoU_sup"}} in percent on the main process.
            Unlike Detectron2's mIoU, IoU includes classes that occur only as false positives.
        """
        folder = Path(self._temp_dir)
        own = {file.name: file.read_bytes() for file in folder.iterdir()}
        for files in comm.gather(own):
            for name in files.keys() - own.keys():
                (folder / name).write_bytes(files[name])
        results = super().evaluate()
        self._working_dir.cleanup()
        return results
