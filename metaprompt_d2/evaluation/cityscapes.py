"""The official Cityscapes scorer, on any number of machines."""

import logging
from collections import OrderedDict
from functools import cached_property
from importlib import import_module
from pathlib import Path

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import CityscapesSemSegEvaluator
from detectron2.utils import comm
from PIL import Image

from ..data.image_files import is_read_as_stored, opened
from ..metrics import NO_CLASS, classify_pixels
from ..utils.errors import InputError
from ..utils.files import write_png
from ..utils.temporary import TemporaryFolder

logger = logging.getLogger(__name__)

_MAX_LISTED = 5  # names in a message
_UNLABELED = 0  # id in files


class DistributedCityscapesSemSegEvaluator(CityscapesSemSegEvaluator):
    """Detectron2's evaluator without the need for a file system that all processes share.

    Each process writes its predictions to its own folder. The main process collects the
    (compressed) files and runs the scorer of cityscapesscripts on all of them.
    """

    def __init__(self, dataset_name: str):
        """
        Args:
            dataset_name: Dataset with the layout of Cityscapes, and "gt_dir" in its metadata.
        """
        super().__init__(dataset_name)
        self.dataset_name = dataset_name

    @cached_property
    def _label_ids(self) -> dict[str, str]:
        """The images' label maps with label ids, which are next to those with training ids.

        Detectron2's mapper drops their names from the inputs.
        """
        return {
            item["file_name"]: item["sem_seg_file_name"].replace("labelTrainIds", "labelIds")
            for item in DatasetCatalog.get(self.dataset_name)
        }

    def reset(self) -> None:
        self._working_dir = TemporaryFolder("metaprompt_d2_cityscapes_")
        self._temp_dir = self._working_dir.name

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """Write predictions; pixels whose scores are NaN or infinite are unlabeled, thus wrong.

        Raises:
            InputError: A label map is missing, or is one that the scorer would misread.
        """
        for item in inputs:
            file = self._label_ids[item["file_name"]]
            with opened("label", file) as stream:
                fits = is_read_as_stored(Image.open(stream))
            if not fits:
                raise InputError(
                    f"label file {file} has gray values of less than 8 bits, which the official "
                    "scorer misreads: save it with 8 bits"
                )
        super().process(inputs, outputs)
        for item, output in zip(inputs, outputs, strict=True):
            has_no_class = classify_pixels(output["sem_seg"]) == NO_CLASS
            if has_no_class.any():
                written = Path(self._temp_dir, f"{Path(item['file_name']).stem}_pred.png")
                with Image.open(written) as image:
                    labels = np.array(image)
                labels[has_no_class] = _UNLABELED
                write_png(labels, written)

    def evaluate(self) -> OrderedDict | None:
        """Score the predictions of all processes, against the label maps of the dataset's images.

        A warning names label maps without an image, on which the official script stops.

        Returns:
            {"sem_seg": {"IoU", "iIoU", "IoU_sup", "iIoU_sup"}} in percent on the main process.
            Unlike Detectron2's mIoU, IoU includes classes that occur only as false positives.

        Raises:
            InputError: Images of the dataset have no prediction.
        """
        folder = Path(self._temp_dir)
        own = {file.name: file.read_bytes() for file in folder.iterdir()}
        for files in comm.gather(own):
            for name in files.keys() - own.keys():
                (folder / name).write_bytes(files[name])
        results = self._score(folder) if comm.is_main_process() else None
        self._working_dir.cleanup()
        return results

    def _score(self, folder: Path) -> OrderedDict:
        # The script reads CITYSCAPES_DATASET when it is imported.
        scorer = import_module("cityscapesscripts.evaluation.evalPixelLevelSemanticLabeling")
        truth = {
            f"{Path(image).stem}_pred.png": labels for image, labels in self._label_ids.items()
        }
        missing = sorted(truth[name] for name in truth if not (folder / name).is_file())
        if missing:
            raise InputError(
                f"{len(missing)} of {len(truth)} images of dataset {self.dataset_name!r} have no "
                f"prediction to score: {', '.join(missing[:_MAX_LISTED])}"
            )
        self._warn_of_label_maps_alone({Path(file).name for file in truth.values()})
        scorer.args.JSONOutput = scorer.args.colorized = False
        predictions = [str(folder / name) for name in truth]
        found = scorer.evaluateImgLists(predictions, list(truth.values()), scorer.args)
        names = {
            "IoU": "averageScoreClasses",
            "iIoU": "averageScoreInstClasses",
            "IoU_sup": "averageScoreCategories",
            "iIoU_sup": "averageScoreInstCategories",
        }
        return OrderedDict(sem_seg={name: 100 * found[key] for name, key in names.items()})

    def _warn_of_label_maps_alone(self, scored: set[str]) -> None:
        gt_dir = MetadataCatalog.get(self.dataset_name).gt_dir
        there = sorted(Path(gt_dir).glob("*/*_gtFine_labelIds.png"))
        alone = [str(file) for file in there if file.name not in scored]
        if alone:
            more = ", ..." if len(alone) > _MAX_LISTED else ""
            logger.warning(
                "%d label maps of %s have no image and are not scored: %s%s",
                *(len(alone), gt_dir, ", ".join(alone[:_MAX_LISTED]), more),
            )
