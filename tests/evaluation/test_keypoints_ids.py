"""COCO's files under all kinds of ids: the same people give the same metrics."""

import json
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.structures import Instances
from id_schemes import rename
from pose_files import (
    detection,
    person,
    registered_people,
    smallest_pose_cfg,
    write_detections,
    write_people,
)

from metaprompt_d2.data import PoseMapper
from metaprompt_d2.evaluation import TopDownKeypointEvaluator

NUMBER_OF_SCHEMES = 24


def annotations() -> list[dict]:
    """Five people on three images, two of which have two people apart from each other."""
    people = []
    for number in range(5):
        item = person(number + 1, number % 3 + 1, area=1800.0)  # the area of the box
        moved = np.array(item["keypoints"]) + [45.0 * (number // 3), 0, 0] * 17
        item["keypoints"] = moved.tolist()
        item["bbox"] = [10.0 + 45.0 * (number // 3), 10.0, 30.0, 60.0]
        people.append(item)
    return people


def predict(keypoints: list[float], noise: float, seed: int) -> dict:
    """The annotated keypoints, moved, as a prediction."""
    found = np.reshape(keypoints, (1, 17, 3)).astype(float)
    found[..., :2] += np.random.default_rng(seed).normal(0, noise, (1, 17, 2))
    instances = Instances((80, 100))
    instances.pred_keypoints = torch.from_numpy(found)
    instances.scores = torch.tensor([0.9 - 0.1 * seed])
    instances.pred_classes = torch.tensor([0])
    instances.crop_areas = torch.tensor([1800.0])
    return {"instances": instances}


def score(json_file: Path, noise: float = 0.0, output_dir: Path | None = None) -> dict:
    """Feed the annotated people back; every person's noise depends on who it is."""
    order = [item["bbox"][0] + item["keypoints"][0] for item in annotations()]
    with registered_people(json_file) as name:
        evaluator = TopDownKeypointEvaluator(name, output_dir=output_dir and str(output_dir))
        evaluator.reset()
        for item in DatasetCatalog.get(name):
            keypoints = item["annotations"][0]["keypoints"]
            who = int(np.argmin(np.abs(np.array(order) - item["person_box"][0] - keypoints[0])))
            evaluator.process([item], [predict(keypoints, noise, who)])
        return evaluator.evaluate()["keypoints"]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_people(tmp_path_factory.mktemp("plain"), annotations(), image_ids=(1, 2, 3))


@pytest.fixture(scope="module")
def plain_metrics(plain: Path) -> dict:
    """Of ids as COCO has them, which pycocotools takes as they are."""
    metrics = score(plain, noise=3.0)
    assert 0 < metrics["AP"] < 100
    return metrics


@pytest.mark.parametrize("seed", range(NUMBER_OF_SCHEMES))
def test_ids_and_optional_fields_change_nothing(
    plain: Path, plain_metrics: dict, tmp_path: Path, seed: int
) -> None:
    content, images, person_id = rename(json.loads(plain.read_text()), Random(seed))
    file = plain.with_name(f"renamed_{seed}.json")
    file.write_text(json.dumps(content))
    perfect = score(file, output_dir=tmp_path)
    assert [perfect[key] for key in ("AP", "AR", "people")] == [pytest.approx(100)] * 2 + [5]
    results = json.loads((tmp_path / "keypoints_results.json").read_text())
    places = {item["file_name"]: item["id"] for item in content["images"]}
    assert set(places.values()) == set(images.values())
    counts = [sum(item["image_id"] == new for item in results) for new in images.values()]
    assert counts == [2, 2, 1]
    assert all(item["category_id"] == person_id for item in results)
    assert score(file, noise=3.0) == pytest.approx(plain_metrics, nan_ok=True)


@pytest.mark.parametrize("person_id", [0, 3, "1"])
def test_detections_of_the_files_own_person_are_taken(tmp_path: Path, person_id: int | str) -> None:
    file = write_people(tmp_path, annotations(), image_ids=(1, 2, 3))
    content = json.loads(file.read_text())
    for item in content["annotations"]:
        item["category_id"] = person_id
    content["categories"] = [{"id": person_id, "name": "person"}, {"id": 2, "name": "person tree"}]
    file.write_text(json.dumps(content))
    boxes = [
        detection(item["image_id"], category_id=person_id, bbox=item["bbox"])
        for item in annotations()
    ]
    other = detection(category_id=2)
    with registered_people(file, write_detections(tmp_path, [other, *boxes])) as name:
        evaluator = TopDownKeypointEvaluator(name)
        evaluator.reset()
        for number, item in enumerate(DatasetCatalog.get(name)):
            output = predict(annotations()[number]["keypoints"], 0.0, number)
            evaluator.process([item], [output])
        metrics = evaluator.evaluate()["keypoints"]
    assert (metrics["AP"], metrics["people"]) == (pytest.approx(100), 5)


def test_detections_may_name_the_same_ids_in_another_type(tmp_path: Path) -> None:
    file = write_people(tmp_path, [person(1)])
    found = detection(category_id="1") | {"image_id": "1"}
    with registered_people(file, write_detections(tmp_path, [found])) as name:
        (item,) = DatasetCatalog.get(name)
    assert item["image_id"] == 1


def test_training_reads_the_same_people(plain: Path) -> None:
    """A crop and its heatmaps don't depend on the ids either."""
    mapper = PoseMapper(smallest_pose_cfg({"INPUT.RANDOM_FLIP": "none"}), is_train=False)
    content, _, _ = rename(json.loads(plain.read_text()), Random(1))
    renamed = plain.with_name("renamed_for_training.json")
    renamed.write_text(json.dumps(content))
    found = []
    for file in (plain, renamed):
        with registered_people(file) as name:
            items = sorted(
                DatasetCatalog.get(name), key=lambda i: (i["file_name"], i["person_box"])
            )
        assert len({(item["image_id"], item["person_id"]) for item in items}) == 5
        keypoints = [item["annotations"][0]["keypoints"] for item in items]
        found.append((keypoints, [mapper(item)["image"] for item in items]))
    assert found[0][0] == found[1][0]
    assert all(torch.equal(*pair) for pair in zip(found[0][1], found[1][1], strict=True))


def test_a_prediction_for_an_image_that_the_file_does_not_list_is_named(plain: Path) -> None:
    with registered_people(plain) as name:
        evaluator = TopDownKeypointEvaluator(name)
        evaluator.reset()
        evaluator.process([{"image_id": 9}], [predict(annotations()[0]["keypoints"], 0, 0)])
        with pytest.raises(ValueError, match=r"people\.json does not list the predicted image 9"):
            evaluator.evaluate()
