"""COCO keypoint metrics of people that were posed one by one."""

import itertools
import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from operator import itemgetter
from pathlib import Path

import numpy as np
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from ..codecs import DEFAULT_SIGMA
from ..data import find_keypoint_schema
from ..data.coco_json import People, read_people, split_parts
from ..metrics import oks_nms, person_score
from ..utils.errors import InputError
from ..utils.files import write_json
from .keypoint_metrics import compute_keypoint_metrics, number_images
from .not_finite import warn_of

logger = logging.getLogger(__name__)

_Key = tuple[int | str, int, int, int]  # image, category, person, index


class TopDownKeypointEvaluator(DatasetEvaluator):
    """Rescore people by their keypoints, suppress duplicates by OKS, and run COCO's evaluation.

    The procedure is ViTPose's (docs/method.md#vitpose-recipe). The metrics are those of pycocotools
    against the dataset's `json_file`. Every person counts once.
    """

    def __init__(
        self,
        dataset_name: str,
        *,
        output_dir: str | None = None,
        keypoint_score_threshold: float = 0.2,
        oks_nms_threshold: float = 0.9,
        oks_sigmas: Sequence[float] = (),
    ):
        """
        Args:
            dataset_name: Dataset whose metadata has `json_file`, annotations in COCO's format,
                `thing_classes`, the names of their categories, and `keypoint_names`.
            output_dir: Folder for `keypoints_results.json`, in the format of COCO's server and with
                the `json_file`'s ids of images and categories.
            keypoint_score_threshold, oks_nms_threshold: Thresholds of `person_score` and `oks_nms`.
            oks_sigmas: Standard deviations of the annotators; () for those of the metadata
                (`keypoint_oks_sigmas`).

        Raises:
            InputError: The metadata has no `json_file`, `thing_classes` or `keypoint_names`, or
                another number of keypoints than sigmas.
        """
        self.dataset_name = dataset_name
        metadata = MetadataCatalog.get(dataset_name)
        for key in ("json_file", "thing_classes"):
            if metadata.get(key) is None:
                raise InputError(f"metadata of dataset {dataset_name!r} has no {key}")
        self.json_file, self.categories = metadata.json_file, list(metadata.thing_classes)
        self.box_area = metadata.get("keypoint_box_area")
        self.crowd_levels = metadata.get("keypoint_crowd_levels", ())
        schema = find_keypoint_schema(dataset_name)
        self.schema = replace(schema, sigmas=tuple(oks_sigmas)) if oks_sigmas else schema
        if self.schema.sigmas is None:
            logger.warning(
                "dataset %r has no keypoint_oks_sigmas: all keypoints are scored with %g",
                *(dataset_name, DEFAULT_SIGMA),
            )
        self.output_dir = output_dir
        self.keypoint_score_threshold = keypoint_score_threshold
        self.oks_nms_threshold = oks_nms_threshold

    def reset(self) -> None:
        # keypoints, box score, area
        self._people: dict[_Key, tuple[np.ndarray, float, float]] = {}
        self._not_finite: dict[_Key, int] = {}  # their keypoints that are NaN

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        """
        Args:
            inputs: Dicts with "image_id" and, if each is one person, "person_id".
            outputs: "instances" with `pred_keypoints`, `pred_classes` (indices of the categories),
                box `scores` and `crop_areas`.

        Raises:
            InputError: The number of keypoints isn't the dataset's.
        """
        for item, output in zip(inputs, outputs, strict=True):
            instances = output["instances"]
            keypoints = instances.pred_keypoints.double().cpu().numpy()
            if keypoints.shape[1:] != (len(self.schema), 3):
                raise InputError(
                    f"predictions for image {item['image_id']} have {keypoints.shape[1]} "
                    f"keypoints, expected {len(self.schema)}"
                )
            bad = ~np.isfinite(keypoints).all(axis=-1)
            keypoints = np.where(bad[..., None], 0, keypoints)
            fields = keypoints, instances.scores.tolist(), instances.crop_areas.tolist()
            categories = instances.pred_classes.tolist()
            for index, person in enumerate(zip(*fields, strict=True)):
                key = item["image_id"], categories[index], item.get("person_id", 0), index
                self._people[key] = person
                if bad[index].any():
                    self._not_finite[key] = int(bad[index].sum())

    def evaluate(self) -> OrderedDict | None:
        """Run COCO's evaluation on the people of all processes.

        Returns:
            {"keypoints": metrics} on the main process, None on others. The metrics are pycocotools'
            "AP", "AP50", ..., "ARl" in percent (NaN for sizes without annotated people, 0 without
            predictions), those of parts and crowds of `compute_keypoint_metrics`, the number of
            "people" before suppression, and "people_not_finite" with NaN or infinite keypoints,
            which are scored as (0, 0) with score 0.

        Raises:
            InputError: The `json_file` cannot be read, or lacks an image that was predicted.
        """
        gathered = comm.gather((self._people, self._not_finite))
        if not comm.is_main_process():
            return None
        # Samplers repeat people to give every process the same number.
        people = {key: person for part, _ in gathered for key, person in part.items()}
        not_finite = {key: count for _, part in gathered for key, count in part.items()}
        bad = [
            f"person {person_id} of image {image_id} ({count} keypoints)"
            for (image_id, _, person_id, _), count in sorted(not_finite.items(), key=str)
        ]
        warn_of("people have keypoints that are NaN or infinite, scored as (0, 0) with 0", bad)
        truth = read_people(
            *(self.json_file, self.categories, len(self.schema)),
            parts=self.schema.parts,
            image_numbers=["crowdIndex"] if self.crowd_levels else [],
        )
        results = self._results(people, truth)
        logger.info("%d people posed, %d left after suppression by OKS", len(people), len(results))
        if self.output_dir:
            entries = [it | split_parts(it["keypoints"], self.schema.parts) for it in results]
            write_json(entries, Path(self.output_dir) / "keypoints_results.json")
        if not results:
            logger.warning("nobody was posed in dataset %r: all metrics are 0", self.dataset_name)
        metrics = compute_keypoint_metrics(
            *(truth, results, self.schema),
            box_area=self.box_area,
            crowd_levels=self.crowd_levels,
        )
        counts = {"people": len(people), "people_not_finite": len(not_finite)}
        return OrderedDict({"keypoints": metrics | counts})

    def _results(self, people: dict[_Key, tuple], truth: People) -> list[dict]:
        """Rescore and suppress the people of each image; return them in COCO's result format.

        Those of different categories don't suppress each other.
        """
        numbers, results = number_images(truth), []
        category_ids = {index: id_ for id_, index in reversed(truth.classes.items())}
        if unknown := [key[0] for key in people if key[0] not in numbers]:
            raise InputError(f"{self.json_file} does not list the predicted image {unknown[0]!r}")
        ordered = sorted(people, key=lambda key: (numbers[key[0]], *key[1:]))
        for (image_id, category), keys in itertools.groupby(ordered, itemgetter(0, 1)):
            found = zip(*(people[key] for key in keys), strict=True)
            keypoints, box_scores, areas = map(np.array, found)
            scores = person_score(box_scores, keypoints[..., 2], self.keypoint_score_threshold)
            results += [
                {
                    "image_id": image_id,
                    "category_id": category_ids[category],
                    "keypoints": keypoints[index].ravel().round(3).tolist(),
                    "score": float(scores[index]),
                }
                for index in oks_nms(
                    *(keypoints[..., :2], scores, areas, self.oks_nms_threshold),
                    self.schema.oks_sigmas,
                )
            ]
        return results
