"""The official Cityscapes scorer, on any number of machines."""

import os
import tempfile
from collections import OrderedDict
from pathlib import Path

from detectron2.evaluation import CityscapesSemSegEvaluator
from detectron2.utils import comm

__all__ = ["DistributedCityscapesSemSegEvaluator"]


class DistributedCityscapesSemSegEvaluator(CityscapesSemSegEvaluator):
    """Detectron2's evaluator without its need of one file system for all processes.

    Each process writes its predictions to a folder of its own; the main process collects the
    (compressed) files and runs the scorer of cityscapesscripts over all of them.
    """

    def reset(self) -> None:
        self._working_dir = tempfile.TemporaryDirectory(prefix="cityscapes_eval_")
        self._temp_dir = self._working_dir.name

    def evaluate(self) -> OrderedDict | None:
        """
        Returns:
            {"sem_seg": {"IoU", "iIoU", "IoU_sup", "iIoU_sup"}} in percent on the main process.
            Unlike Detectron2's mIoU, IoU counts a class that only occurs as a false positive.
        """
        own = Path(self._temp_dir)
        files = {file.name: file.read_bytes() for file in own.iterdir()}
        for others in comm.gather(files):
            for name, content in others.items():
                if not os.path.exists(own / name):
                    (own / name).write_bytes(content)
        results = super().evaluate()
        self._working_dir.cleanup()
        return results
