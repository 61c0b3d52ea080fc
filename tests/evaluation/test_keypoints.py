"""`TopDownKeypointEvaluator`: ground truth fed back, perturbed, repeated, over processes, bad."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.engine import launch
from detectron2.evaluation import inference_on_dataset
from detectron2.structures import Boxes, Instances
from detectron2.utils import comm
from pose_files import (
    detection,
    person,
    registered_people,
    smallest_pose_cfg,
    write_detections,
    write_people,
)

from metaprompt_d2.data import build_mapper, build_test_loader
from metaprompt_d2.evaluation import TopDownKeypointEvaluator, build_evaluators

RANDOM = np.random.default_rng(0)


def posed(item: dict, *, noise: float = 0.0, shift: float = 0.0) -> dict:
    """The annotated keypoints as a prediction, with normal noise and a shift in pixels."""
    keypoints = np.reshape(item["annotations"][0]["keypoints"], (1, 17, 3)).astype(float)
    keypoints[..., :2] += RANDOM.normal(0, noise, (1, 17, 2)) + shift
    keypoints[..., 2] = 1
    left, top, width, height = item["person_box"]
    instances = Instances((item["height"], item["width"]))
    instances.pred_boxes = Boxes(torch.tensor([[left, top, left + width, top + height]]))
    instances.scores = torch.tensor([item["box_score"]])
    instances.pred_classes = torch.tensor([item["category_id"]])
    instances.pred_keypoints = torch.from_numpy(keypoints)
    instances.crop_areas = torch.tensor([width * height * 1.5])
    return {"instances": instances}


def score(name: str, items: list[dict], output_dir: Path | None = None, **change) -> dict:
    evaluator = TopDownKeypointEvaluator(name, output_dir=output_dir and str(output_dir))
    evaluator.reset()
    for item in items:
        evaluator.process([item], [posed(item, **change)])
    return evaluator.evaluate()["keypoints"]


def annotations() -> list[dict]:
    """Four people apart from each other, on two images, and somebody who cannot be posed."""
    people = []
    for number in range(4):
        item = person(number + 1, number % 2 + 1)
        item["area"] = 2000.0 if number < 2 else 10000.0
        moved = np.array(item["keypoints"]) + [40.0 * (number // 2), 0, 0] * 17
        item["keypoints"] = moved.tolist()
        people.append(item)
    return [*people, person(9, 2, keypoints=[0] * 51, num_keypoints=0)]


def test_ground_truth_fed_back_is_perfect(tmp_path: Path) -> None:
    with registered_people(write_people(tmp_path, annotations())) as name:
        metrics = score(name, DatasetCatalog.get(name))
    assert all(metrics[key] == pytest.approx(100) for key in ("AP", "AP50", "AP75", "APm", "APl"))
    assert metrics["AR"] == pytest.approx(100)
    assert metrics["people"] == 4


def test_metrics_fall_with_noise(tmp_path: Path) -> None:
    with registered_people(write_people(tmp_path, annotations())) as name:
        items = DatasetCatalog.get(name)
        values = [score(name, items, noise=noise)["AP"] for noise in (0, 5, 40)]
    assert values[0] > values[1] > values[2]


def test_real_annotations_fed_back_and_perturbed(real_data: Path) -> None:
    folder = real_data / "coco"
    json_file = folder / "annotations/person_keypoints_val2017.json"
    with registered_people(json_file) as name:
        items = DatasetCatalog.get(name)
        assert score(name, items)["AP"] == pytest.approx(100)
        # 230195, the smallest person, has an area of 101^2 pixels.
        near, far = score(name, items, shift=6.0), score(name, items, shift=60.0)
    assert 40 < near["AP"] < 100
    assert near["AP50"] == pytest.approx(100)
    assert far["AP"] == 0


def test_a_person_that_comes_twice_counts_once(tmp_path: Path) -> None:
    with registered_people(write_people(tmp_path, annotations())) as name:
        items = DatasetCatalog.get(name)
        metrics = score(name, [*items, *items[:2]], tmp_path)
    results = json.loads((tmp_path / "keypoints_results.json").read_text())
    assert metrics["people"] == len(results) == 4


def test_the_file_is_what_cocos_server_takes(tmp_path: Path) -> None:
    with registered_people(write_people(tmp_path, annotations())) as name:
        score(name, DatasetCatalog.get(name), tmp_path / "out")
    results = json.loads((tmp_path / "out/keypoints_results.json").read_text())
    assert all(item.keys() == {"image_id", "category_id", "keypoints", "score"} for item in results)
    assert all(len(item["keypoints"]) == 51 and item["category_id"] == 1 for item in results)
    assert not list((tmp_path / "out").glob("*.tmp"))


def test_people_are_rescored_and_copies_suppressed(tmp_path: Path) -> None:
    with registered_people(write_people(tmp_path, annotations())) as name:
        item = DatasetCatalog.get(name)[0]
        evaluator = TopDownKeypointEvaluator(name, output_dir=str(tmp_path))
        evaluator.reset()
        for person_id, box_score, keypoint_score in ((1, 0.5, 1.0), (2, 0.9, 0.4), (3, 0.9, 0.1)):
            output = posed(item, noise=0.01)
            output["instances"].scores[:] = box_score
            output["instances"].pred_keypoints[..., 2] = keypoint_score
            evaluator.process([item | {"person_id": person_id}], [output])
        evaluator.evaluate()
    results = json.loads((tmp_path / "keypoints_results.json").read_text())
    assert [result["score"] for result in results] == pytest.approx([0.5])


def test_people_of_one_image_at_once_all_count(tmp_path: Path) -> None:
    with registered_people(write_people(tmp_path, annotations())) as name:
        items = [item for item in DatasetCatalog.get(name) if item["image_id"] == 1]
        together = Instances.cat([posed(item)["instances"] for item in items])
        evaluator = TopDownKeypointEvaluator(name)
        evaluator.reset()
        evaluator.process([{"image_id": 1}], [{"instances": together}])
        assert evaluator.evaluate()["keypoints"]["people"] == 2


def test_without_predictions_all_metrics_are_zero(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with registered_people(write_people(tmp_path, annotations())) as name:
        metrics = score(name, [], tmp_path)
    assert metrics["AP"] == metrics["AR"] == 0
    assert "nobody was posed" in caplog.text
    assert json.loads((tmp_path / "keypoints_results.json").read_text()) == []


def test_a_size_that_nobody_has_is_nan(tmp_path: Path) -> None:
    with registered_people(write_people(tmp_path, [person(1)])) as name:
        assert math.isnan(score(name, DatasetCatalog.get(name))["APl"])


def test_annotations_without_keypoints_are_nobody_to_find(tmp_path: Path) -> None:
    bare = person(2)
    for key in ("keypoints", "num_keypoints", "area", "iscrowd"):
        del bare[key]
    with registered_people(write_people(tmp_path, [person(1), bare])) as name:
        assert score(name, DatasetCatalog.get(name))["AP"] == pytest.approx(100)


def test_another_number_of_keypoints_is_an_error(tmp_path: Path) -> None:
    with registered_people(write_people(tmp_path, annotations())) as name:
        item = DatasetCatalog.get(name)[0]
        output = posed(item)
        output["instances"].pred_keypoints = torch.zeros(1, 16, 3)
        evaluator = TopDownKeypointEvaluator(name)
        with pytest.raises(ValueError, match="have 16 keypoints, expected 17"):
            evaluator.process([item], [output])


def test_a_dataset_without_annotations_is_refused() -> None:
    with pytest.raises(ValueError, match="has no json_file"):
        TopDownKeypointEvaluator("unheard_of")


def test_the_table_finds_it_with_its_thresholds(tmp_path: Path) -> None:
    cfg = smallest_pose_cfg({"TEST.POSE.OKS_NMS_THRESH": 0.7, "OUTPUT_DIR": str(tmp_path)})
    with registered_people(write_people(tmp_path, annotations())) as name:
        (evaluator,) = build_evaluators(cfg, name)
    assert isinstance(evaluator, TopDownKeypointEvaluator)
    assert (evaluator.oks_nms_threshold, evaluator.keypoint_score_threshold) == (0.7, 0.2)


def score_share(json_file: Path, result_file: Path) -> None:
    """Score every second person, filled up with the first ones; the main process writes."""
    with registered_people(json_file) as name:
        items = DatasetCatalog.get(name)
        rank, size = comm.get_rank(), comm.get_world_size()
        evaluator = TopDownKeypointEvaluator(name)
        evaluator.reset()
        for item in [*items, items[0]][rank::size]:
            evaluator.process([item], [posed(item)])
        metrics = evaluator.evaluate()
        assert (metrics is None) == (rank > 0)
        if rank == 0:
            result_file.write_text(json.dumps(metrics))


def test_processes_share_the_people(tmp_path: Path) -> None:
    json_file = write_people(tmp_path, annotations())
    file = tmp_path / "metrics.json"
    launch(score_share, 2, dist_url="auto", args=(json_file, file))
    metrics = json.loads(file.read_text())["keypoints"]
    assert (metrics["people"], metrics["AP"]) == (4, pytest.approx(100))


def test_a_threshold_above_all_scores_leaves_nobody_and_no_error(tmp_path: Path) -> None:
    json_file = write_people(tmp_path, annotations())
    found = write_detections(tmp_path, [detection(1, 0.5), detection(2, 0.6)])
    cfg = smallest_pose_cfg({"TEST.POSE.BOX_SCORE_THRESH": 0.7, "DATALOADER.NUM_WORKERS": 0})
    with registered_people(json_file, found) as name:
        loader = build_test_loader(cfg, name, build_mapper(cfg, is_train=False))
        metrics = inference_on_dataset(torch.nn.Identity(), loader, TopDownKeypointEvaluator(name))
    assert metrics["keypoints"]["AP"] == metrics["keypoints"]["people"] == 0
