"""The published evaluations of COCO-WholeBody, AP-10K and CrowdPose, computed independently."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.structures import Instances
from keypoint_layouts import write_ap10k, write_crowdpose, write_wholebody
from keypoint_scoring import compute_ap_and_ar
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from metaprompt_d2.data import find_keypoint_schema
from metaprompt_d2.data.datasets import register_ap10k, register_coco_wholebody, register_crowdpose
from metaprompt_d2.evaluation import TopDownKeypointEvaluator
from metaprompt_d2.utils.errors import InputError

WHOLEBODY = {"keypoints": 17, "foot_kpts": 6, "face_kpts": 68}
WHOLEBODY |= {"lefthand_kpts": 21, "righthand_kpts": 21}
SLICES = {"body": slice(0, 17), "foot": slice(17, 23), "face": slice(23, 91)}
SLICES |= {"lefthand": slice(91, 112), "righthand": slice(112, 133)}


pytestmark = pytest.mark.usefixtures("empty_catalogs")


def guess(file: Path, fields: dict[str, int], sigmas: np.ndarray) -> list[tuple[dict, np.ndarray]]:
    """Two guesses for each annotation, from good to bad; some have no confident face."""
    random = np.random.default_rng(3)
    guesses = []
    for item in json.loads(file.read_text())["annotations"]:
        left, top, width, height = item["bbox"]
        for _ in range(2):
            points = np.reshape(sum((item[field] for field in fields), []), (-1, 3)).astype(float)
            unlabeled = points[:, 2] == 0
            corner = left + width, top + height
            points[unlabeled, :2] = random.uniform((left, top), corner, (unlabeled.sum(), 2))
            noise = random.choice([0.2, 1, 2]) * sigmas[:, None] * np.sqrt(width * height)
            points[:, :2] += noise * random.normal(0, 1, (len(points), 2))
            points[:, 2] = random.uniform(0.3, 1, len(points))
            if len(points) == 133 and random.random() < 0.2:
                points[SLICES["face"], 2] = 0
            guesses.append((item, points.round(2)))
    return guesses


def score(name: str, guesses: list[tuple[dict, np.ndarray]], folder: Path) -> tuple[dict, list]:
    """Metrics of the guesses, and the results that are written."""
    evaluator = TopDownKeypointEvaluator(name, output_dir=str(folder))
    evaluator.reset()
    for number, (item, points) in enumerate(guesses):
        instances = Instances((240, 320), pred_keypoints=torch.from_numpy(points)[None])
        instances.scores = torch.tensor([0.5])
        instances.pred_classes = torch.tensor([item["category_id"] - 1])
        instances.crop_areas = torch.tensor([5000.0])
        entry = {"image_id": item["image_id"], "person_id": number}
        evaluator.process([entry], [{"instances": instances}])
    metrics = evaluator.evaluate()["keypoints"]
    return metrics, json.loads((folder / "keypoints_results.json").read_text())


def people_of(
    file: Path, fields: dict[str, int], place: slice = slice(None), **changes: Callable
) -> list[dict]:
    """The annotations for `compute_ap_and_ar`, of some of the keypoints."""
    people = []
    for item in json.loads(file.read_text())["annotations"]:
        points = np.reshape(sum((item[field] for field in fields), []), (-1, 3))[place]
        person = {"image": item["image_id"], "points": points, "box": item["bbox"]}
        person |= {"area": item.get("area"), "crowd": bool(item["iscrowd"])}
        person["ignored"] = person["crowd"] or not (points[:, 2] > 0).any()
        people.append(person | {key: change(item) for key, change in changes.items()})
    return people


def found_in(results: list[dict], fields: dict[str, int], place: slice = slice(None)) -> list[dict]:
    """The results for `compute_ap_and_ar`, without those whose keypoints all have score 0."""
    found = []
    for item in results:
        points = np.reshape(sum((item[field] for field in fields), []), (-1, 3))[place]
        if points[:, 2].any():
            found.append({"image": item["image_id"], "points": points, "score": item["score"]})
    return found


def test_whole_bodies_and_their_parts(tmp_path: Path) -> None:
    file = write_wholebody(tmp_path)
    register_coco_wholebody(str(tmp_path))
    name = "coco_wholebody_topdown_val_gt"
    sigmas = find_keypoint_schema(name).oks_sigmas
    metrics, results = score(name, guess(file, WHOLEBODY, sigmas), tmp_path)
    for entry in results:  # as in the format of the official evaluation
        assert {field: len(entry[field]) / 3 for field in WHOLEBODY} == WHOLEBODY
        assert entry.keys() == {"image_id", "category_id", "score", *WHOLEBODY}
    expected = {
        part: compute_ap_and_ar(
            people_of(file, WHOLEBODY, place), found_in(results, WHOLEBODY, place), sigmas[place]
        )
        for part, place in SLICES.items()
    }
    hands = zip(expected["lefthand"], expected["righthand"], strict=True)
    expected["hand"] = tuple(sum(values) / 2 for values in hands)
    for part, values in expected.items():
        assert (metrics[f"AP_{part}"], metrics[f"AR_{part}"]) == pytest.approx(values)
    whole = compute_ap_and_ar(people_of(file, WHOLEBODY), found_in(results, WHOLEBODY), sigmas)
    assert (metrics["AP"], metrics["AR"]) == pytest.approx(whole)
    assert len({round(precision) for precision, _ in expected.values()}) > 4


def test_a_prediction_is_as_large_as_its_body(tmp_path: Path) -> None:
    """A false person with a medium body and a large face isn't counted among the large ones."""
    file = write_wholebody(tmp_path, num_images=1)
    register_coco_wholebody(str(tmp_path))
    content = json.loads(file.read_text())
    person = content["annotations"][1] | {"area": 100.0**2}
    file.write_text(json.dumps(content | {"annotations": [person]}))
    right = np.reshape(sum((person[field] for field in WHOLEBODY), []), (-1, 3)).astype(float)
    wrong = right.copy()
    wrong[:17, :2] = np.linspace((200, 100), (250, 150), 17)
    wrong[17:, :2] = np.linspace((100, 0), (300, 230), 116)
    right[:, 2], wrong[:, 2] = 0.5, 0.9
    guesses = [(person, wrong), (person, right)]
    metrics, _ = score("coco_wholebody_topdown_val_gt", guesses, tmp_path)
    assert (metrics["AP"], metrics["APl"]) == pytest.approx((50, 100))


def test_people_with_a_face_alone_count_as_faces(tmp_path: Path) -> None:
    file = write_wholebody(tmp_path)
    register_coco_wholebody(str(tmp_path))
    people = DatasetCatalog.get("coco_wholebody_topdown_val_gt")
    assert len(people) == 11  # all but the crowd
    keypoints = [item["annotations"][0]["keypoints"] for item in people]
    (bodiless,) = [place for place, values in enumerate(keypoints) if not any(values[:51])]
    (item,) = [
        item
        for item in json.loads(file.read_text())["annotations"]
        if item["id"] == people[bodiless]["person_id"]
    ]
    assert item["num_keypoints"] == 0  # which counts the body
    assert keypoints[bodiless] == sum((item[field] for field in WHOLEBODY), [])


def test_species_are_averaged(tmp_path: Path) -> None:
    file = write_ap10k(tmp_path)
    register_ap10k(str(tmp_path))
    name, fields = "ap10k_topdown_val_split1", {"keypoints": 17}
    sigmas = find_keypoint_schema(name).oks_sigmas
    metrics, results = score(name, guess(file, fields, sigmas), tmp_path)
    values = []
    for category_id in (1, 8, 26, 54):
        people = people_of(file, fields, category=lambda item: item["category_id"])
        own = [item for item in people if item["category"] == category_id]
        found = [item for item in results if item["category_id"] == category_id]
        values.append(compute_ap_and_ar(own, found_in(found, fields), sigmas))
    assert (metrics["AP"], metrics["AR"]) == pytest.approx(np.mean(values, axis=0))
    assert len({round(precision) for precision, _ in values}) > 1


def test_crowds_are_scored_by_the_area_of_boxes_and_by_the_crowd_index(tmp_path: Path) -> None:
    file = write_crowdpose(tmp_path)
    register_crowdpose(str(tmp_path))
    name, fields = "crowdpose_topdown_test_gt", {"keypoints": 14}
    sigmas = find_keypoint_schema(name).oks_sigmas
    metrics, results = score(name, guess(file, fields, sigmas), tmp_path)
    people = people_of(
        file,
        fields,
        area=lambda item: 0.53 * item["bbox"][2] * item["bbox"][3],
        ignored=lambda item: item["num_keypoints"] == 0,
    )
    assert any(item["ignored"] and item["points"].any() for item in people)
    found = found_in(results, fields)
    expected = compute_ap_and_ar(people, found, sigmas)
    assert (metrics["AP"], metrics["AR"]) == pytest.approx(expected)
    crowds = {item["id"]: item["crowdIndex"] for item in json.loads(file.read_text())["images"]}
    assert sorted(crowds.values()) == [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    levels = {"easy": [0.0], "medium": [0.2, 0.4, 0.6], "hard": [0.8, 1.0]}
    for level, indices in levels.items():
        images = [image for image, index in crowds.items() if index in indices]
        own = ([item for item in part if item["image"] in images] for part in (people, found))
        assert metrics[f"AP_{level}"] == pytest.approx(compute_ap_and_ar(*own, sigmas)[0])
    assert not {"APm", "APl", "ARm", "ARl"} & metrics.keys()


def test_levels_without_people_are_nan_and_without_predictions_zero(tmp_path: Path) -> None:
    file = write_crowdpose(tmp_path)
    register_crowdpose(str(tmp_path))
    content = json.loads(file.read_text())
    for image in content["images"]:
        image["crowdIndex"] = min(image["crowdIndex"], 0.5)
    file.write_text(json.dumps(content))
    metrics, _ = score("crowdpose_topdown_test_gt", [], tmp_path)
    assert np.isnan(metrics["AP_hard"])
    assert metrics["AP"] == metrics["AP_easy"] == 0


def test_images_without_a_crowd_index_are_named(tmp_path: Path) -> None:
    file = write_crowdpose(tmp_path)
    register_crowdpose(str(tmp_path))
    content = json.loads(file.read_text())
    del content["images"][2]["crowdIndex"]
    file.write_text(json.dumps(content))
    message = r"mmpose_crowdpose_test\.json: images\[2\] has no 'crowdIndex'"
    with pytest.raises(InputError, match=message):
        score("crowdpose_topdown_test_gt", [], tmp_path)


@pytest.mark.parametrize("name", ["ap10k_topdown_val_split1", "crowdpose_topdown_test_gt"])
def test_other_sigmas_are_those_of_pycocotools(tmp_path: Path, name: str) -> None:
    """pycocotools itself, on the file as it is apart from the area of boxes."""
    crowded = name.startswith("crowdpose")
    file = (write_crowdpose if crowded else write_ap10k)(tmp_path)
    (register_crowdpose if crowded else register_ap10k)(str(tmp_path))
    fields = {"keypoints": 14 if crowded else 17}
    sigmas = find_keypoint_schema(name).oks_sigmas
    metrics, results = score(name, guess(file, fields, sigmas), tmp_path)
    truth = COCO(str(file))
    for item in truth.dataset["annotations"]:
        item["area"] = (0.53 if crowded else 1) * item["bbox"][2] * item["bbox"][3]
    evaluation = COCOeval(truth, truth.loadRes(results), "keypoints")
    evaluation.params.kpt_oks_sigmas = sigmas
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    expected = dict(zip(("AP", "AP50", "AP75"), evaluation.stats[:3] * 100, strict=True))
    expected |= dict(zip(("AR", "AR50", "AR75"), evaluation.stats[5:8] * 100, strict=True))
    assert {key: metrics[key] for key in expected} == expected
