"""Write predicted label maps in the formats of the Cityscapes and ADE20K test servers."""

import logging
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

import numpy as np
from cityscapesscripts.helpers.labels import trainId2label
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.builtin_meta import ADE20K_SEM_SEG_CATEGORIES
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from ..metrics import NO_CLASS, classify_pixels
from ..utils.errors import InputError
from ..utils.files import atomic_write, path_inside, png_names, write_png
from .not_finite import describe_not_finite, warn_of

logger = logging.getLogger(__name__)

PREDICTION_FORMATS = ("auto", "cityscapes", "ade20k", "ids")

# Number of images in the published datasets.
_PUBLISHED = {
    "cityscapes_fine_sem_seg_val": 500,
    "cityscapes_fine_sem_seg_test": 1525,
    "ade20k_sem_seg_val": 2000,
    "ade20k_sem_seg_test": 3352,
}
_MAX_LISTED = 5  # names in messages


class SemSegPredictionWriter(DatasetEvaluator):
    """Write each prediction of a dataset as a PNG and, if all are there, an archive of them.

    * "cityscapes": label ids (7 is road), named like the images, for the benchmark's server;
    * "ade20k": 1..150, named like the images, for ADE20K's server;
    * "ids": class ids from 0 (16 bits beyond 256 classes), in the images' subfolders.
    """

    def __init__(
        self,
        dataset_name: str,
        archive: str,
        *,
        file_format: str = "auto",
        allow_incomplete: bool = False,
    ):
        """
        Args:
            dataset_name: Name of a registered dataset, with or without ground truth.
            archive: Archive (.zip) to write. The PNGs go to the folder of that name without ".zip",
                which all processes must share.
            file_format: One of `PREDICTION_FORMATS`; "auto" chooses by the dataset's classes.
            allow_incomplete: Whether to accept a dataset with fewer images than were published.

        Raises:
            InputError: The format or file extension is unknown, the classes don't fit the format,
                two images have the same name, or the dataset is incomplete.
        """
        if file_format not in PREDICTION_FORMATS:
            raise InputError(f"format {file_format!r}: expected one of {PREDICTION_FORMATS}")
        if not archive.endswith(".zip"):
            raise InputError(f"the archive {archive} must end in .zip")
        self.dataset_name = dataset_name
        self.archive = Path(archive)
        self.folder = self.archive.with_suffix("")
        classes = MetadataCatalog.get(dataset_name).get("stuff_classes", None)
        if not classes:
            raise InputError(f"dataset {dataset_name!r} has no stuff_classes in its metadata")
        self.values = _png_values(file_format, classes, dataset_name)
        files = [item["file_name"] for item in DatasetCatalog.get(dataset_name)]
        published = _PUBLISHED.get(dataset_name, len(files))
        if len(files) < published and not allow_incomplete:
            raise InputError(
                f"dataset {dataset_name!r} has {len(files)} images here, {published} were "
                "published; --allow-incomplete (allow_incomplete=True) accepts that"
            )
        self.names = png_names(files, keeps_folders=self.values[0] == 0)  # format "ids"

    def reset(self) -> None:
        self._written: set[str] = set()
        self._not_finite: dict[str, str] = {}

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """
        Raises:
            InputError: The model predicts another task, or other classes than the dataset's.
        """
        for item, output in zip(inputs, outputs, strict=True):
            if "sem_seg" not in output:
                given = sorted(output)
                raise InputError(f"the model gives {given}, expected semantic segmentation")
            if len(output["sem_seg"]) != len(self.values):
                raise InputError(
                    f"the model has {len(output['sem_seg'])} classes, dataset "
                    f"{self.dataset_name!r} {len(self.values)}"
                )
            classes = classify_pixels(output["sem_seg"])
            if (classes == NO_CLASS).any():
                self._not_finite[item["file_name"]] = describe_not_finite(output)
            name = self.names[item["file_name"]]
            write_png(self.values[classes.clip(min=0)], path_inside(self.folder, name))
            self._written.add(name)

    def evaluate(self) -> None:
        """Write the archive on the main process, and name images with NaN or infinite scores.

        Raises:
            InputError: Some images have no prediction of this run; no archive is written.
        """
        written = set().union(*comm.all_gather(self._written))
        parts = comm.gather(self._not_finite)
        if not comm.is_main_process():
            return
        not_finite = {name: text for part in parts for name, text in part.items()}
        bad = [f"{name} ({text})" for name, text in sorted(not_finite.items())]
        warn_of("images have scores that are NaN or infinite, written as the first class", bad)
        expected = sorted(self.names.values())
        missing = [n for n in expected if n not in written or not (self.folder / n).is_file()]
        if missing:
            more = ", ..." if len(missing) > _MAX_LISTED else ""
            raise InputError(
                f"{len(missing)} of {len(expected)} predictions are missing in {self.folder}, "
                f"{self.archive} is not written: {', '.join(missing[:_MAX_LISTED])}{more}"
            )
        atomic_write(self.archive, self._write_archive)
        logger.info("%d predictions: %s", len(expected), self.archive)

    def _write_archive(self, stream: IO[bytes]) -> None:
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED) as archive:  # PNGs are compressed
            for name in sorted(self.names.values()):
                archive.write(self.folder / name, name)


def _png_values(file_format: str, classes: Sequence[str], dataset_name: str) -> np.ndarray:
    """Return the PNG value of each class."""
    cityscapes = [trainId2label[train_id] for train_id in range(19)]
    known = {
        "cityscapes": ([label.name for label in cityscapes], [label.id for label in cityscapes]),
        "ade20k": (list(ADE20K_SEM_SEG_CATEGORIES), range(1, 151)),
        "ids": (list(classes), range(len(classes))),
    }
    if file_format == "auto":
        file_format = next(name for name, (names, _) in known.items() if names == list(classes))
    names, values = known[file_format]
    if names != list(classes):
        raise InputError(
            f"dataset {dataset_name!r} has not the classes of {file_format}; format 'ids' takes any"
        )
    return np.array(values, np.min_scalar_type(max(values)))
