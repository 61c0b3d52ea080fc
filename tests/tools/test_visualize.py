"""`tools/visualize_data.py` and `tools/visualize_predictions.py` write pictures of each task."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask
import pytest
import visualize_data
import visualize_predictions
from detectron2.data import MetadataCatalog
from mini_training import CONFIG, POSE_CONFIG, POSE_SMALL, SMALL
from pose_files import PEOPLE, person, write_people

from metaprompt_d2.data import register_keypoints, register_sem_seg_folders
from metaprompt_d2.data.datasets.coco_topdown import COCO_PERSON
from metaprompt_d2.data.datasets.keypoints import load_annotated_people
from metaprompt_d2.data.datasets.kitti import load_kitti_eigen
from metaprompt_d2.utils.errors import InputError

DEPTH_CONFIG = "configs/mini/kitti_depth.yaml"


def pictures(folder: Path) -> list[np.ndarray]:
    return [cv2.imread(str(file)) for file in sorted(folder.glob("*.png"))]


@pytest.mark.parametrize("config", [CONFIG, DEPTH_CONFIG])
def test_files_are_drawn_with_their_ground_truth(
    run_tool: Callable[..., str], tmp_path: Path, config: str
) -> None:
    options = ["--source", "annotation", "--config-file", config, "--num-images", 2]
    run_tool("visualize_data.py", *options, "--output-dir", tmp_path)
    drawn = pictures(tmp_path)
    assert len(drawn) == 2
    assert drawn[0].shape == (64 + 14, 2 * 128 + 4, 3)


def test_samples_are_drawn_as_the_model_gets_them(
    run_tool: Callable[..., str], tmp_path: Path
) -> None:
    options = ["--source", "dataloader", "--config-file", CONFIG, "--num-images", 3]
    run_tool("visualize_data.py", *options, "--output-dir", tmp_path, *SMALL)
    drawn = pictures(tmp_path)
    assert len(drawn) == 3
    assert drawn[0].shape == (64 + 14, 2 * 64 + 4, 3)  # crops of 64x64


@pytest.mark.parametrize("source", ["annotation", "dataloader"])
def test_segments_are_drawn(run_tool: Callable[..., str], tmp_path: Path, source: str) -> None:
    options = ["--source", source, "--config-file", CONFIG, "--num-images", 2]
    keys = "MODEL.META_ARCHITECTURE UniversalSegmentor DATASETS.TRAIN ('mini_panoptic_train',)"
    folder = ["--output-dir", tmp_path, *SMALL, *keys.split()]
    run_tool("visualize_data.py", *options, *folder)
    drawn = pictures(tmp_path)
    size = (64, 2 * 64 + 4) if source == "dataloader" else (64, 3 * 128 + 8)  # with classes
    assert [picture.shape for picture in drawn] == [(size[0] + 14, size[1], 3)] * 2


def test_a_label_map_that_does_not_fit_is_named(tmp_path: Path) -> None:
    name = f"test_visualize_data_{tmp_path.name}"
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((64, 64, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((64, 65), np.uint8))
    register_sem_seg_folders(name, tmp_path, tmp_path, ["sea"], image_suffix=".jpg")
    options = ["--source", "annotation", "--config-file", CONFIG]
    options += ["--output-dir", str(tmp_path / "drawn"), "DATASETS.TRAIN", f"('{name}',)"]
    with pytest.raises(SystemExit, match=r"error: label file .*a\.png is 64x65"):
        visualize_data.main(options)


def test_people_are_drawn_with_their_keypoints_one_picture_per_image(
    run_tool: Callable[..., str], mini_data: Path, tmp_path: Path
) -> None:
    options = ["--source", "annotation", "--config-file", POSE_CONFIG]
    run_tool("visualize_data.py", *options, "--output-dir", tmp_path)
    people = load_annotated_people(
        str(mini_data / "mini/coco/annotations/person_keypoints_train2017.json"), "", **PEOPLE
    )
    drawn = pictures(tmp_path)
    assert len(drawn) == len({person["file_name"] for person in people}) < len(people)
    assert drawn[0].shape == (4 * 64 + 18, 2 * 4 * 128 + 4, 3)  # enlarged to 512 pixels


def test_crops_are_drawn_with_heatmaps_and_keypoints(
    run_tool: Callable[..., str], tmp_path: Path
) -> None:
    options = ["--source", "dataloader", "--config-file", POSE_CONFIG, "--num-images", 2]
    run_tool("visualize_data.py", *options, "--output-dir", tmp_path, *POSE_SMALL)
    first, second = pictures(tmp_path)
    assert first.shape == (512 + 36, 3 * 512 + 8, 3)
    image, heatmaps = first[36:, :512].astype(int), first[36:, 516 : 516 + 512].astype(int)
    assert (heatmaps[..., 2] - image[..., 2]).max() > 50  # BGR: redder


def test_people_are_drawn_from_the_evaluators_json(
    run_tool: Callable[..., str], mini_data: Path, tmp_path: Path
) -> None:
    people = load_annotated_people(
        str(mini_data / "mini/coco/annotations/person_keypoints_val2017.json"), "", **PEOPLE
    )
    results = [
        {
            "image_id": person["image_id"],
            "category_id": 1,
            "keypoints": person["annotations"][0]["keypoints"],
            "score": score,
        }
        for person, score in zip(people, [0.9] * (len(people) - 1) + [0.1], strict=True)
    ]
    file = tmp_path / "keypoints_results.json"
    file.write_text(json.dumps(results))
    options = ["--dataset", "mini_coco_person_topdown_val", "--input", file, "--output"]
    run_tool("visualize_predictions.py", *options, tmp_path / "all")
    images = {person["image_id"] for person in people}
    drawn = pictures(tmp_path / "all")
    assert len(drawn) == len(images)
    assert drawn[0].shape == (4 * 64 + 18, 3 * 4 * 128 + 8, 3)
    sure = ["--score-threshold", 0.5]
    run_tool("visualize_predictions.py", *options, tmp_path / "sure", *sure)
    assert len(pictures(tmp_path / "sure")) == len(images)  # with fewer people in the last one
    surest = ["--score-threshold", 0.95, "--num-images", 1]  # above all scores
    run_tool("visualize_predictions.py", *options, tmp_path / "nobody", *surest)
    (nobody,) = pictures(tmp_path / "nobody")
    image, truth, predicted = (nobody[18:, start : start + 512] for start in (0, 516, 1032))
    assert np.array_equal(predicted, image)
    assert not np.array_equal(truth, image)
    file.write_text('[{"image_id": 1}]')
    output = run_tool("visualize_predictions.py", *options, tmp_path / "none", fails=True)
    assert "keypoints_results.json isn't a list of predictions" in output


def test_predicted_people_have_their_categories(tmp_path: Path) -> None:
    name = f"test_visualize_{tmp_path.name}"
    file = write_people(tmp_path, [person(1)])
    content = json.loads(file.read_text())
    content["categories"] = [{"id": 1, "name": "person"}, {"id": 7, "name": "dog"}]
    file.write_text(json.dumps(content))
    names = COCO_PERSON["keypoint_names"]
    register_keypoints(
        name, str(file), str(tmp_path), thing_classes=["dog", "person"], keypoint_names=names
    )
    found = [person(1) | {"score": 0.9}, person(2, category_id=7) | {"score": 0.8}]
    results = tmp_path / "results.json"

    def categories() -> list[int]:
        results.write_text(json.dumps(found))
        read = visualize_predictions.json_reader(results, [], MetadataCatalog.get(name), 0.5)
        output = read({"image_id": 1, "height": 80, "width": 100})
        return output["instances"].pred_classes.tolist()

    assert categories() == [1, 0]
    found[1]["score"] = 0.4
    assert categories() == [1]
    found[1]["category_id"] = 5
    with pytest.raises(InputError, match=r"entries\[1\] has category_id 5, expected one of 1, 7"):
        categories()


def test_predictions_are_drawn_from_the_evaluators_json(
    run_tool: Callable[..., str], mini_data: Path, tmp_path: Path
) -> None:
    images = sorted((mini_data / "mini/cityscapes/leftImg8bit/val").rglob("*.png"))
    mask = pycocotools.mask.encode(np.ones((64, 128, 1), np.uint8, order="F"))[0]
    mask["counts"] = mask["counts"].decode()
    entry = {"file_name": str(images[0]), "category_id": 13, "segmentation": mask}
    (tmp_path / "predictions.json").write_text(json.dumps([entry]))
    options = ["--dataset", "mini_cityscapes_fine_sem_seg_val", "--output", tmp_path / "drawn"]
    run_tool("visualize_predictions.py", *options, "--input", tmp_path / "predictions.json")
    (drawn,) = pictures(tmp_path / "drawn")
    assert drawn.shape == (64 + 14, 3 * 128 + 8, 3)


@pytest.mark.parametrize("moved", [False, True], ids=["in place", "moved"])
def test_images_of_one_name_in_two_folders_keep_their_own_predictions(
    tmp_path: Path, moved: bool
) -> None:
    name = f"test_visualize_{tmp_path.name}"
    entries = []
    for number, path in enumerate(("a/one.v2.png", "b/one.v2.png")):
        file = tmp_path / "images" / path
        file.parent.mkdir(parents=True)
        cv2.imwrite(str(file), np.zeros((64, 64, 3), np.uint8))
        mask = pycocotools.mask.encode(np.ones((64, 64, 1), np.uint8, order="F"))[0]
        mask["counts"] = mask["counts"].decode()
        file_name = f"/elsewhere/{path}" if moved else str(file)
        entries.append({"file_name": file_name, "category_id": number, "segmentation": mask})
    colors = [(250, 0, 0), (0, 0, 250)]
    register_sem_seg_folders(name, tmp_path / "images", None, ["red", "blue"], colors=colors)
    (tmp_path / "predictions.json").write_text(json.dumps(entries))
    options = ["--dataset", name, "--input", str(tmp_path / "predictions.json")]
    visualize_predictions.main([*options, "--output", str(tmp_path / "drawn")])
    first, second = (drawn[-1, -1].tolist() for drawn in pictures(tmp_path / "drawn"))
    assert (first, second) == ([0, 0, 175], [175, 0, 0])  # BGR, blended over black


def test_predictions_are_drawn_from_a_folder_of_depth(
    run_tool: Callable[..., str], mini_data: Path, tmp_path: Path
) -> None:
    items = load_kitti_eigen(str(mini_data / "mini/kitti"), "test", kb_crop=False)
    root = os.path.commonpath([os.path.dirname(item["file_name"]) for item in items])
    first = tmp_path / "depth" / os.path.relpath(items[0]["file_name"], root)
    options = ["--dataset", "mini_kitti_eigen_test", "--output", tmp_path / "drawn"]
    options += ["--input", tmp_path / "depth"]
    first.parent.mkdir(parents=True)
    output = run_tool("visualize_predictions.py", *options, fails=True)
    assert "has no prediction of mini_kitti_eigen_test" in output
    cv2.imwrite(str(first.with_suffix(".png")), np.full((64, 128), 2560, np.uint16))
    run_tool("visualize_predictions.py", *options)
    (drawn,) = pictures(tmp_path / "drawn")
    assert drawn.shape[1] == 4 * 128 + 3 * 4  # image, truth, prediction, error
