"""Panoptic quality, of which each process scores its own images."""

import contextlib
import io
import logging
import os
from collections import OrderedDict
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.evaluation import COCOPanopticEvaluator
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from panopticapi.evaluation import PQStat, pq_compute_single_core
from tabulate import tabulate

from ..data.segments import read_segments
from ..utils.errors import InputError
from ..utils.files import read_json
from ..utils.temporary import TemporaryFolder

logger = logging.getLogger(__name__)

_MAX_LISTED = 5  # names in a message
_METADATA = (
    *("panoptic_json", "panoptic_root"),
    *("thing_dataset_id_to_contiguous_id", "stuff_dataset_id_to_contiguous_id"),
)
# Suffixes of the metrics' names, titles, and whether things, stuff or both are averaged.
_KINDS = (("", "all", None), ("_th", "things", True), ("_st", "stuff", False))


class PanopticQualityEvaluator(COCOPanopticEvaluator):
    """Detectron2's evaluator with the same metrics, which scores images when they are predicted.

    Detectron2 collects all predictions on the main process, where panopticapi starts a process for
    each core. Here each process scores its own images with panopticapi, and an image that a sampler
    repeats counts once.
    """

    def __init__(self, dataset_name: str):
        """
        Args:
            dataset_name: Dataset with "panoptic_json", "panoptic_root" and the ids of its
                categories in its metadata, as `register_panoptic` sets them.

        Raises:
            InputError: They are missing.
        """
        for key in _METADATA:
            if MetadataCatalog.get(dataset_name).get(key, None) is None:
                raise InputError(f"dataset {dataset_name!r} has no {key} in its metadata")
        super().__init__(dataset_name)
        self.dataset_name = dataset_name
        self.panoptic_root = PathManager.get_local_path(self._metadata.panoptic_root)

    def reset(self) -> None:
        """
        Raises:
            MissingFileError: The dataset's "panoptic_json" doesn't exist.
            InputError: It isn't in COCO's panoptic format.
        """
        super().reset()
        content = read_json(self._metadata.panoptic_json)
        try:
            self._categories = {part["id"]: part for part in content["categories"]}
            self._truth = {note["image_id"]: note for note in content["annotations"]}
        except (KeyError, TypeError) as error:
            file = self._metadata.panoptic_json
            raise InputError(f"{file} isn't in COCO's panoptic format: no {error}") from error
        self._stats: dict[Any, PQStat] = {}
        self._folder = TemporaryFolder("metaprompt_d2_panoptic_")

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """
        Raises:
            InputError: An image isn't in the ground truth, its ground truth doesn't fit, or a
                segment has a class that the dataset doesn't have.
        """
        for item, output in zip(inputs, outputs, strict=True):
            key = item["image_id"]
            if key in self._stats:
                continue
            if key not in self._truth:
                raise InputError(
                    f"image {item['file_name']} has the image_id {key!r}, which "
                    f"{self._metadata.panoptic_json} doesn't list"
                )
            segments, infos = output["panoptic_seg"]
            if infos is not None:
                self._check_classes(infos, item)
                infos = [dict(info) for info in infos]  # Detectron2 changes them
            super().process([item], [{"panoptic_seg": (segments.clone(), infos)}])
            predicted = self._predictions.pop()
            truth = self._checked_truth(item, (segments.shape[0], segments.shape[1]))
            file = Path(self._folder.name, predicted["file_name"])
            file.write_bytes(predicted.pop("png_string"))
            folders = self.panoptic_root, self._folder.name
            with contextlib.redirect_stdout(io.StringIO()):  # of its progress
                stat = pq_compute_single_core(0, [(truth, predicted)], *folders, self._categories)
            file.unlink()
            self._stats[key] = stat

    def evaluate(self) -> OrderedDict | None:
        """Sum up the images of all processes, and log a table of the classes.

        Returns:
            {"panoptic_seg": metrics in percent} on the main process, None on others. The metrics
            are Detectron2's "PQ", "SQ", "RQ", "PQ_th", ..., "PQ_st", ...; those of things or stuff
            are left out if no image has any.

        Raises:
            InputError: Images of the dataset have no prediction.
        """
        parts = comm.gather(self._stats)
        self._folder.cleanup()
        if not comm.is_main_process():
            return None
        stats = {key: stat for part in parts for key, stat in part.items()}
        missing = [note["file_name"] for key, note in self._truth.items() if key not in stats]
        if missing:
            raise InputError(
                f"{len(missing)} of {len(self._truth)} images of dataset {self.dataset_name!r} "
                f"have no panoptic prediction to score: {', '.join(missing[:_MAX_LISTED])}"
            )
        total = PQStat()
        for stat in stats.values():
            total += stat
        return OrderedDict(panoptic_seg=self._average(total))

    def _average(self, total: PQStat) -> dict[str, float]:
        counted = {
            key: category
            for key, category in self._categories.items()
            if total[key].tp + total[key].fp + total[key].fn
        }
        metrics: dict[str, float] = {}
        rows, means = [], []
        for suffix, title, is_thing in _KINDS:
            if not any(is_thing in (None, bool(part["isthing"])) for part in counted.values()):
                logger.warning("%s: no image has segments of %s", self.dataset_name, title)
                continue
            average, by_category = total.pq_average(counted, is_thing)
            names = ("pq", "sq", "rq")
            metrics |= {name.upper() + suffix: 100 * float(average[name]) for name in names}
            if is_thing is not None:
                rows += [
                    (counted[key]["name"], title, *(100 * found[name] for name in names))
                    for key, found in by_category.items()
                ]
            means.append((f"mean of {title}", "", *(100 * average[name] for name in names)))
        table = tabulate(rows + means, ("class", "", "PQ", "SQ", "RQ"), floatfmt=".2f")
        logger.info("%s:\n%s", self.dataset_name, table)
        return metrics

    def _check_classes(self, infos: list[dict], item: dict) -> None:
        """Refuse segments whose class has no category in the dataset."""
        kinds: dict[bool | None, tuple[str, Collection[int]]] = {
            True: ("thing", self._metadata.thing_dataset_id_to_contiguous_id.values()),
            False: ("stuff", self._metadata.stuff_dataset_id_to_contiguous_id.values()),
            None: ("category", self._categories),
        }
        for info in infos:
            kind, known = kinds[info.get("isthing")]
            if info["category_id"] not in known:
                raise InputError(
                    f"image {item['file_name']}: a predicted segment is the {kind} "
                    f"{info['category_id']}, dataset {self.dataset_name!r} has {sorted(known)}"
                )

    def _checked_truth(self, item: dict, size: tuple[int, int]) -> Mapping[str, Any]:
        """Return the annotation of an image in which each segment has an area and a kind."""
        note = self._truth[item["image_id"]]
        file = os.path.join(self.panoptic_root, note["file_name"])
        segments = []
        for segment in note["segments_info"]:
            category = self._categories.get(segment["category_id"])
            if category is None:
                raise InputError(
                    f"{self._metadata.panoptic_json}: segment {segment['id']} of "
                    f"{note['file_name']} has the category_id {segment['category_id']}, which its "
                    "categories don't list"
                )
            segments.append({"iscrowd": 0, "isthing": bool(category["isthing"])} | segment)
        truth = {"pan_seg_file_name": file, "segments_info": segments}
        numbers = read_segments(item | truth, size)
        areas = np.bincount(numbers.ravel() + 1, minlength=len(segments) + 1)[1:].tolist()
        return note | {
            "segments_info": [
                {"area": area} | segment for area, segment in zip(areas, segments, strict=True)
            ]
        }
