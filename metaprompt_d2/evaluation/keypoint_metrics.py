"""COCO's keypoint metrics: of all keypoints, of their parts, and by how crowded an image is."""

import contextlib
import io
import logging
import math
from collections.abc import Sequence

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ..codecs import KeypointSchema
from ..data.coco_json import People

logger = logging.getLogger(__name__)

# In the order of COCOeval's `stats`.
_METRICS = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")


def compute_keypoint_metrics(
    truth: People,
    results: list[dict],
    schema: KeypointSchema,
    *,
    box_area: float | None = None,
    crowd_levels: Sequence[tuple[str, float]] = (),
) -> dict[str, float]:
    """Run COCO's evaluation, or that of COCO-WholeBody or CrowdPose, which build on it.

    Args:
        truth: Annotations. With `crowd_levels`, the images have a "crowdIndex".
        results: Predictions in COCO's result format, with the ids of `truth`.
        schema: Keypoints, with their standard deviations and the parts to evaluate.
        box_area: Share of the box's area that is an annotation's area; None for the annotated area.
        crowd_levels: Names of groups of images and their upper limits of the crowd index, in
            ascending order.

    Returns:
        pycocotools' metrics in percent: NaN for what nobody is annotated with, 0 without results.
        With parts, there are also "AP_<part>" and "AR_<part>", and the mean of two parts named
        `left*` and `right*`. With `crowd_levels`, "AP_<level>" replaces the metrics by size.
    """
    if box_area is not None:
        annotations = [
            item | {"area": box_area * item["bbox"][2] * item["bbox"][3]}
            for item in truth.annotations
        ]
        truth = truth._replace(annotations=annotations)
    if schema.parts:
        results = [item | {"area": _first_part_area(item, schema)} for item in results]
    metrics = _run_coco(truth, results, schema.oks_sigmas)
    for part, values in _run_parts(truth, results, schema).items():
        metrics |= {f"AP_{part}": values["AP"], f"AR_{part}": values["AR"]}
    if crowd_levels:
        metrics = {name: value for name, value in metrics.items() if name[-1] not in "ml"}
    lowest = -math.inf
    for level, limit in crowd_levels:
        images = {i["id"]: i for i in truth.images if lowest <= i["crowdIndex"] < limit}
        annotations = [item for item in truth.annotations if item["image_id"] in images]
        within = truth._replace(images=[*images.values()], annotations=annotations)
        found = [item for item in results if item["image_id"] in images]
        metrics[f"AP_{level}"] = _run_coco(within, found, schema.oks_sigmas, level)["AP"]
        lowest = limit
    return metrics


def _run_parts(truth: People, results: list[dict], schema: KeypointSchema) -> dict[str, dict]:
    """Run COCO's evaluation of each part, as COCO-WholeBody and its tool xtcocotools do.

    People without a labeled keypoint of the part are ignored. Predictions whose keypoints of the
    part all have the score 0 are left out.
    """
    metrics = {}
    for part, place in schema.part_slices.items():
        within = truth._replace(annotations=[_cut(item, place) for item in truth.annotations])
        found = [item for item in (_cut(item, place) for item in results) if item["num_keypoints"]]
        metrics[part] = _run_coco(within, found, schema.oks_sigmas[place], part)
    for left, values in [*metrics.items()]:
        both = left.removeprefix("left")
        if left.startswith("left") and (right := metrics.get(f"right{both}")):
            metrics[both] = {name: (values[name] + right[name]) / 2 for name in values}
    return metrics


def _cut(item: dict, place: slice) -> dict:
    """Return an annotation or a prediction with some of its keypoints."""
    keypoints = np.reshape(item["keypoints"], (-1, 3))[place]
    count = int((keypoints[:, 2] > 0).sum())
    return item | {"keypoints": keypoints.ravel().tolist(), "num_keypoints": count}


def _first_part_area(item: dict, schema: KeypointSchema) -> float:
    """Compute the area of a prediction, which is that of the body for all parts of a whole body."""
    first = next(iter(schema.part_slices.values()))
    points = np.reshape(item["keypoints"], (-1, 3))[first, :2]
    return float(np.ptp(points, axis=0).prod())


def _run_coco(
    truth: People, results: list[dict], sigmas: np.ndarray, title: str = "all"
) -> dict[str, float]:
    """Run pycocotools' evaluation of keypoints."""
    if not results:
        labeled = any(item["num_keypoints"] and not item["iscrowd"] for item in truth.annotations)
        return dict.fromkeys(_METRICS, 0.0 if labeled else math.nan)
    report = io.StringIO()
    with contextlib.redirect_stdout(report):
        evaluation = COCOeval(*_pycocotools_pair(truth, results), "keypoints")
        evaluation.params.kpt_oks_sigmas = sigmas
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    logger.info("%s:\n%s", title, report.getvalue())
    # pycocotools reports -1 if nobody of a size is annotated.
    return {
        name: float(value) * 100 if value >= 0 else math.nan
        for name, value in zip(_METRICS, evaluation.stats, strict=True)
    }


def number_images(people: People) -> dict[int | str, int]:
    """Number the images from 1 in the order of their ids, integers before strings."""
    ids = sorted((image["id"] for image in people.images), key=lambda id_: (type(id_) is str, id_))
    return {id_: number for number, id_ in enumerate(ids, start=1)}


def _pycocotools_pair(people: People, results: list[dict]) -> tuple[COCO, COCO]:
    """Give annotations and results the ids that pycocotools needs: integers from 1, each once.

    pycocotools takes a match with the id 0 for no match, and keeps one annotation of each id.
    """
    numbers = number_images(people)

    def renamed(item: dict) -> dict:
        category_id = people.classes[item["category_id"]] + 1
        return item | {"image_id": numbers[item["image_id"]], "category_id": category_id}

    truth = COCO()
    truth.dataset = {
        "images": [image | {"id": numbers[image["id"]]} for image in people.images],
        "annotations": [
            renamed(item) | {"id": number}
            for number, item in enumerate(people.annotations, start=1)
        ],
        "categories": [{"id": number + 1} for number in {*people.classes.values()}],
    }
    truth.createIndex()
    found = truth.loadRes([renamed(item) for item in results])
    for entry, item in zip(found.dataset["annotations"], results, strict=True):
        entry["area"] = item.get("area", entry["area"])  # pycocotools computes it of the keypoints
    return truth, found
