"""`register_keypoints` with keypoints that aren't COCO's: trained, evaluated and drawn."""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, Instances
from pose_files import smallest_pose_cfg
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from metaprompt_d2.data import (
    build_mapper,
    check_datasets,
    find_keypoint_metadata,
    find_keypoint_schema,
    register_keypoints,
)
from metaprompt_d2.engine import Trainer
from metaprompt_d2.evaluation import TopDownKeypointEvaluator, build_evaluators
from metaprompt_d2.inference import PredictionFiles, Predictor
from metaprompt_d2.utils.errors import InputError
from metaprompt_d2.visualization import compare_people

NAMES = ["beak", "left_wing", "right_wing", "left_foot", "right_foot"]
SKELETON = [[1, 2], [1, 3], [1, 4], [1, 5]]
PAIRS = [("left_wing", "right_wing"), ("left_foot", "right_foot")]
BIRD = {"id": 0, "name": "bird", "keypoints": NAMES, "skeleton": SKELETON}
BAT = {"id": "7", "name": "Bat", "keypoints": NAMES, "skeleton": SKELETON}
FIVE = {"MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS": 5}


def write(folder: Path, *categories: dict, num_keypoints: int = 5) -> str:
    """Two animals on each of two images, in turn of each category, with as few fields as possible.

    Keypoints are flagged 0, 1 and 2.
    """
    random = np.random.default_rng(0)
    for number in (0, 1):
        pixels = random.integers(0, 256, (80, 100, 3), np.uint8)
        cv2.imwrite(str(folder / f"{number}.png"), pixels)
    annotations = []
    for number in range(4):
        left = 8 + 45 * (number % 2)
        points = random.uniform((left, 10), (left + 30, 70), (num_keypoints, 2))
        flags = np.resize([2, 1, 2, 0, 2], num_keypoints)
        keypoints = np.column_stack([points, flags]).round(1).ravel().tolist()
        category_id = categories[number % len(categories)]["id"]
        item = {"image_id": number // 2, "category_id": category_id}
        annotations.append(item | {"bbox": [left, 10, 30, 60], "keypoints": keypoints})
    images = [
        {"id": number, "file_name": f"{number}.png", "height": 80, "width": 100}
        for number in (0, 1)
    ]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "animals.json").write_text(json.dumps(content))
    return str(folder / "animals.json")


@contextmanager
def registered(json_file: str, **metadata: object) -> Iterator[str]:
    name = f"test_keypoints_{uuid.uuid4().hex}"
    register_keypoints(name, json_file, str(Path(json_file).parent), **metadata)
    try:
        yield name
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def posed(item: dict, shift: float = 0.0) -> dict:
    """The annotated keypoints, moved by some pixels, as the model's output."""
    keypoints = np.reshape(item["annotations"][0]["keypoints"], (1, -1, 3)) + [shift, 0, 0]
    keypoints[..., 2] = 1
    left, top, width, height = item["person_box"]
    instances = Instances((80, 100), pred_keypoints=torch.from_numpy(keypoints))
    instances.pred_boxes = Boxes(torch.tensor([[left, top, left + width, top + height]]))
    instances.scores, instances.crop_areas = torch.ones(1), torch.tensor([1800.0])
    instances.pred_classes = torch.tensor([item["category_id"]])
    return {"instances": instances}


def score(name: str, shift: float = 0.0, **arguments: object) -> dict:
    evaluator = TopDownKeypointEvaluator(name, **arguments)
    evaluator.reset()
    for item in DatasetCatalog.get(name):
        evaluator.process([item], [posed(item, shift)])
    return evaluator.evaluate()["keypoints"]


def test_five_keypoints_are_trained_evaluated_and_drawn(tmp_path: Path) -> None:
    with registered(write(tmp_path, BIRD, BAT), keypoint_flip_map=PAIRS) as name:
        keys = FIVE | {"DATASETS.TRAIN": (name,), "DATASETS.TEST": (name,)}
        keys |= {"OUTPUT_DIR": str(tmp_path / "out"), "SOLVER.MAX_ITER": 1}
        keys |= {"SOLVER.IMS_PER_BATCH": 2, "DATALOADER.NUM_WORKERS": 0, "TEST.NUM_PICTURES": 2}
        cfg = smallest_pose_cfg(keys)
        trainer = Trainer(cfg)
        trainer.train()
        assert trainer.model.heatmap_head.predictor.out_channels == 5
        metrics = Trainer.test(cfg, trainer.model)["keypoints"]
        assert metrics["people"] == 4
        folder = tmp_path / "out/inference" / name
        assert cv2.imread(str(folder / "pictures.png")) is not None
        results = json.loads((folder / "keypoints_results.json").read_text())
        assert {len(item["keypoints"]) for item in results} == {15}
        assert sorted(str(item["category_id"]) for item in results) == ["0", "0", "7", "7"]
        predictor = Predictor(cfg, model=trainer.model)
        output = predictor(str(tmp_path / "0.png"))
        files = PredictionFiles(tmp_path / "raw", predictor.metadata)
        files.add("0", output, file_name="0.png", size=(80, 100))
        files.close()
        content = json.loads((tmp_path / "raw/keypoints.json").read_text())
        assert [item["name"] for item in content["categories"]] == ["bird", "Bat"]
        assert content["categories"][0]["keypoints"] == NAMES


@pytest.mark.parametrize("categories", [(BIRD,), (BIRD, BAT)])
def test_perfect_predictions_score_100(tmp_path: Path, categories: tuple) -> None:
    with registered(write(tmp_path, *categories)) as name:
        metrics = score(name)
    assert (metrics["AP"], metrics["AR"], metrics["people"]) == (
        pytest.approx(100),
        pytest.approx(100),
        4,
    )


def test_the_metrics_are_pycocotools_with_the_datasets_sigmas(tmp_path: Path) -> None:
    file, sigmas = write(tmp_path, BIRD | {"id": 1}), [0.03, 0.1, 0.1, 0.05, 0.05]
    with registered(file, keypoint_oks_sigmas=sigmas) as name:
        found = score(name, 3.0, output_dir=str(tmp_path))
        overridden = score(name, 3.0, oks_sigmas=[0.01] * 5)
    content = json.loads(Path(file).read_text())
    for number, item in enumerate(content["annotations"], start=1):
        item |= {"id": number, "num_keypoints": 4, "area": 1800, "iscrowd": 0}
    truth = COCO()
    truth.dataset = content
    truth.createIndex()
    results = json.loads((tmp_path / "keypoints_results.json").read_text())
    expected = COCOeval(truth, truth.loadRes(results), "keypoints")
    expected.params.kpt_oks_sigmas = np.array(sigmas)
    expected.evaluate()
    expected.accumulate()
    expected.summarize()
    assert 0 < found["AP"] < 100
    assert (found["AP"], found["AR"]) == tuple(100 * expected.stats[[0, 5]])
    assert overridden["AP"] < found["AP"]


def test_the_config_overrides_the_sigmas(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cfg = smallest_pose_cfg({"TEST.KEYPOINT_OKS_SIGMAS": [0.1] * 5, "OUTPUT_DIR": str(tmp_path)})
    with registered(write(tmp_path, BIRD)) as name:
        (evaluator,) = build_evaluators(cfg, name)
        assert evaluator.schema.sigmas == (0.1,) * 5
        assert not caplog.text
        TopDownKeypointEvaluator(name)
        assert "has no keypoint_oks_sigmas: all keypoints are scored with 0.072" in caplog.text
        with pytest.raises(InputError, match="sigmas are 4 numbers, expected 5"):
            TopDownKeypointEvaluator(name, oks_sigmas=[0.1] * 4)


def test_a_single_keypoint(tmp_path: Path) -> None:
    tip = {"id": 3, "name": "arrow", "keypoints": ["tip"]}
    with registered(write(tmp_path, tip, num_keypoints=1), keypoint_flip_map=[]) as name:
        assert score(name)["AP"] == pytest.approx(100)
        keys = {"MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS": 1, "DATASETS.TRAIN": (name,)}
        mapped = build_mapper(smallest_pose_cfg(keys), is_train=True)(DatasetCatalog.get(name)[0])
        assert mapped["heatmaps"].shape == (1, 16, 12)
        item = DatasetCatalog.get(name)[0]
        people = posed(item)["instances"]
        image = np.zeros((80, 100, 3), np.uint8)
        assert compare_people(image, people, None, MetadataCatalog.get(name)).any()
        model = Trainer.build_model(smallest_pose_cfg(keys))
        assert model([mapped])["loss_heatmap"].isfinite()
        with torch.no_grad():
            (output,) = model.eval()([{"image": mapped["image"]}])
        assert output["instances"].pred_keypoints.shape == (1, 1, 3)


def test_keypoints_flagged_0_are_neither_learned_nor_scored(tmp_path: Path) -> None:
    with registered(write(tmp_path, BIRD), keypoint_flip_map=PAIRS) as name:
        keys = FIVE | {"DATASETS.TRAIN": (name,), "INPUT.POSE_AUG.ROTATION_PROB": 0.0}
        keys |= dict.fromkeys(
            ("INPUT.POSE_AUG.CENTER_JITTER_PROB", "INPUT.POSE_AUG.HALF_BODY_PROB"), 0.0
        )
        mapper = build_mapper(smallest_pose_cfg(keys | {"INPUT.RANDOM_FLIP": "none"}), True)
        items = DatasetCatalog.get(name)
        for item in items:
            flags = item["annotations"][0]["keypoints"][2::3]
            assert flags == [2, 1, 2, 0, 2]
            weights = mapper(item)["keypoint_weights"]
            assert weights.tolist() == [1, 1, 1, 0, 1]
            item["annotations"][0]["keypoints"][9] += 50
        evaluator = TopDownKeypointEvaluator(name)
        evaluator.reset()
        for item in items:
            evaluator.process([item], [posed(item)])
        assert evaluator.evaluate()["keypoints"]["AP"] == pytest.approx(100)


@pytest.mark.parametrize("ids", [[7, 900], ["a", "b"], [-3, 0], ["1", 2]])
def test_ids_of_any_kind_reach_the_results(tmp_path: Path, ids: list) -> None:
    file = Path(write(tmp_path, BIRD | {"id": ids[0]}, BAT | {"id": ids[1]}))
    content = json.loads(file.read_text())
    for image in content["images"]:
        image["id"] = ids[image["id"]]
    for number, item in enumerate(content["annotations"]):
        item |= {"image_id": ids[item["image_id"]], "id": 50 + number}
    file.write_text(json.dumps(content))
    with registered(str(file)) as name:
        assert score(name, output_dir=str(tmp_path))["AP"] == pytest.approx(100)
    results = json.loads((tmp_path / "keypoints_results.json").read_text())
    for key in ("image_id", "category_id"):
        assert sorted(map(str, (item[key] for item in results))) == sorted(map(str, ids * 2))


def test_optional_fields_may_be_missing(tmp_path: Path) -> None:
    file = Path(write(tmp_path, BIRD))
    content = json.loads(file.read_text())
    with registered(str(file)) as name:
        without = DatasetCatalog.get(name), score(name, 5.0)["AP"]
    for item in content["annotations"]:
        # The area of the box is 1800.
        item |= {"num_keypoints": 4, "area": 1800, "iscrowd": 0, "segmentation": []}
    file.write_text(json.dumps(content))
    with registered(str(file)) as name:
        assert (DatasetCatalog.get(name), score(name, 5.0)["AP"]) == without
    for item in content["annotations"]:
        item["area"] = 600
    file.write_text(json.dumps(content))
    with registered(str(file)) as name:
        assert score(name, 5.0)["AP"] < without[1] < 100


def test_the_skeleton_is_drawn(tmp_path: Path) -> None:
    with registered(write(tmp_path, BIRD)) as name:
        metadata, people = (
            MetadataCatalog.get(name),
            posed(DatasetCatalog.get(name)[0])["instances"],
        )
        image = np.zeros((80, 100, 3), np.uint8)
        drawn = compare_people(image, people, None, metadata)
        metadata.__dict__["keypoint_connection_rules"] = []
        points = compare_people(image, people, None, metadata)
    assert drawn.any(axis=2).sum() > points.any(axis=2).sum() + 100


def test_without_flip_pairs_mirroring_is_refused_or_off(tmp_path: Path) -> None:
    with registered(write(tmp_path, BIRD)) as name:
        keys = FIVE | {"DATASETS.TRAIN": (name,)}
        cfg = smallest_pose_cfg(keys)
        with pytest.raises(
            InputError, match=r"beak, .* isn't known: .* set INPUT\.RANDOM_FLIP 'none'"
        ):
            build_mapper(cfg, is_train=True)
        with pytest.raises(InputError, match=r"beak, .* isn't known: .* set TEST\.AUG\.FLIP False"):
            Trainer.build_model(cfg)
        cfg = smallest_pose_cfg(keys | {"INPUT.RANDOM_FLIP": "none", "TEST.AUG.FLIP": False})
        mapped = build_mapper(cfg, is_train=True)(DatasetCatalog.get(name)[0])
        assert Trainer.build_model(cfg)([mapped])["loss_heatmap"].isfinite()


def test_a_flip_map_may_be_added_as_in_detectron2(tmp_path: Path) -> None:
    with registered(write(tmp_path, BIRD)) as name:
        MetadataCatalog.get(name).keypoint_flip_map = PAIRS
        assert find_keypoint_schema(name).flip_indices == (0, 2, 1, 4, 3)


def test_a_category_is_chosen_by_name(tmp_path: Path) -> None:
    ant = {"id": 9, "name": "ant", "keypoints": ["head"]}
    file = write(tmp_path, BIRD, BAT)
    content = json.loads(Path(file).read_text())
    content["categories"].append(ant)
    Path(file).write_text(json.dumps(content))
    with pytest.raises(InputError, match="categories 'bird' and 'ant' have different keypoints"):
        register_keypoints("test_keypoints", file, "")
    with registered(file, thing_classes=["bat"]) as name:
        assert score(name, output_dir=str(tmp_path))["AP"] == pytest.approx(100)
    results = json.loads((tmp_path / "keypoints_results.json").read_text())
    assert {item["category_id"] for item in results} == {"7"}


def test_a_category_that_the_file_lacks_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with registered(write(tmp_path, BIRD), thing_classes=["bird", "bta"]) as name:
        assert len(DatasetCatalog.get(name)) == 4
        assert MetadataCatalog.get(name).thing_classes == ["bird", "bta"]
    assert {r.message for r in caplog.records if "no category" in r.message} == {
        f"{tmp_path / 'animals.json'} has no category 'bta'"
    }


def test_keypoints_of_a_dataset_that_is_not_registered_are_numbered_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cfg = smallest_pose_cfg(FIVE | {"DATASETS.TRAIN": ("gone",), "DATASETS.TEST": ()})
    assert find_keypoint_metadata(cfg)["keypoint_names"] == list("01234")
    assert "No dataset of ['gone'] is registered with keypoints" in caplog.text


def test_a_model_of_another_number_of_keypoints_is_refused(tmp_path: Path) -> None:
    with registered(write(tmp_path, BIRD)) as name:
        message = rf"NUM_KEYPOINTS is 17, but dataset '{name}' has 5 keypoints"
        for key in ("DATASETS.TRAIN", "DATASETS.TEST"):
            cfg = smallest_pose_cfg({"DATASETS.TRAIN": (), "DATASETS.TEST": (), key: (name,)})
            with pytest.raises(InputError, match=message):
                check_datasets(cfg)
        keys = {"DATASETS.TRAIN": (name,), "DATASETS.TEST": ("mini_coco_person_topdown_val",)}
        with pytest.raises(InputError, match="has 17 keypoint_names, dataset .* 5"):
            check_datasets(smallest_pose_cfg(FIVE | keys))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keypoints": []}, r"animals.json: none of the categories \['bird'\] has names"),
        ({"keypoints": ["a", 3]}, r"animals.json: category 'bird': keypoints is .*, expected a li"),
        ({"keypoints": ["a"] * 5}, "animals.json: category 'bird': names: 'a' is there 5 times"),
        ({"skeleton": [[0, 1]]}, r"animals.json: category 'bird': skeleton: \[0, 1\], expected 2"),
    ],
)
def test_a_wrong_category_is_named(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        register_keypoints("test_keypoints", write(tmp_path, BIRD | changes), "")


def test_wrong_metadata_is_named(tmp_path: Path) -> None:
    file = write(tmp_path, BIRD)
    with pytest.raises(
        InputError, match="dataset 'test_keypoints': keypoint flip_pairs: 'x' isn't"
    ):
        register_keypoints("test_keypoints", file, "", keypoint_flip_map=[("x", "beak")])
    assert "test_keypoints" not in [*DatasetCatalog.list(), *MetadataCatalog.list()]


def test_keypoints_of_another_number_name_file_category_and_annotation(tmp_path: Path) -> None:
    file = write(tmp_path, BIRD, num_keypoints=4)
    with registered(file) as name:
        message = r"animals\.json: annotation number 0 of category 0 has 4 keypoints, expected 5"
        with pytest.raises(InputError, match=message):
            DatasetCatalog.get(name)
