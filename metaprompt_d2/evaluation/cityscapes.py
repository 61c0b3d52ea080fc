"""The official Cityscapes scorer, on any number of machines."""

from collections import OrderedDict
from pathlib import Path

from detectron2.evaluation import CityscapesSemSegEvaluator
from detectron2.utils import comm

from ..utils.temporary import TemporaryFolder


class DistributedCityscapesSemSegEvaluator(CityscapesSemSegEvaluator):
    """Detectron2's evaluator without the need for a file system that all processes share.

    Each process writes its predictions to its own folder. The main process collects the
    (compressed) files and runs the scorer of cityscapesscripts on all of them.
    """

    def reset(self) -> None:
        self._working_dir = TemporaryFolder("metaprompt_d2_cityscapes_")
        self._temp_dir = self._working_dir.name

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
