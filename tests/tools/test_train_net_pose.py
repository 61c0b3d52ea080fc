"""`tools/train_net.py` on people end to end: train, evaluate, pictures, several processes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from mini_training import POSE_CONFIG, POSE_SMALL, free_port, losses, metrics_of
from PIL import Image

REAL = ("val_det", "val_gt")
VAL = "mini_coco_person_topdown_val"


@pytest.fixture(scope="module")
def trained(run_tool: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output folder of a short training."""
    output_dir = tmp_path_factory.mktemp("trained")
    options = [*POSE_SMALL, "SOLVER.MAX_ITER", 3, "OUTPUT_DIR", output_dir]
    run_tool("train_net.py", "--config-file", POSE_CONFIG, *options)
    return output_dir


def test_training_leaves_metrics_pictures_and_the_file_for_the_server(
    trained: Path, mini_data: Path
) -> None:
    assert sorted(losses(trained)) == [0, 1, 2]
    assert (trained / "model_best.pth").is_file()
    with Image.open(trained / "inference" / VAL / "pictures.png") as pictures:
        assert pictures.width > 3 * 512
    lines = [json.loads(line) for line in (trained / "metrics.json").read_text().splitlines()]
    (measured,) = [line for line in lines if "keypoints/AP" in line]
    annotated = json.loads(
        (mini_data / "mini/coco/annotations/person_keypoints_val2017.json").read_text()
    )
    assert 0 < measured["keypoints/people"] <= len(annotated["annotations"])
    results = json.loads((trained / "inference" / VAL / "keypoints_results.json").read_text())
    assert 0 < len(results) <= measured["keypoints/people"]


def test_evaluation_is_the_same_in_one_process_and_two(
    run_tool: Callable[..., str], trained: Path, tmp_path: Path
) -> None:
    common = ["--config-file", POSE_CONFIG, "--eval-only"]
    options = [*POSE_SMALL, "MODEL.WEIGHTS", trained / "model_final.pth", "OUTPUT_DIR"]
    alone = run_tool("train_net.py", *common, *options, tmp_path / "alone")
    url = f"tcp://127.0.0.1:{free_port()}"
    two = run_tool(
        "train_net.py", *common, "--num-gpus", 2, "--dist-url", url, *options, tmp_path / "two"
    )
    assert metrics_of(alone) == pytest.approx(metrics_of(two), nan_ok=True, abs=0.01)
    people = [
        len(json.loads((tmp_path / run / f"inference/{VAL}/keypoints_results.json").read_text()))
        for run in ("alone", "two")
    ]
    assert people[0] == people[1]


def test_the_real_detections_are_evaluated(
    run_tool: Callable[..., str], trained: Path, real_data: Path, tmp_path: Path
) -> None:
    output = run_tool(
        "train_net.py",
        *("--config-file", POSE_CONFIG, "--eval-only", *POSE_SMALL),
        *("MODEL.WEIGHTS", trained / "model_final.pth", "OUTPUT_DIR", tmp_path),
        *(
            "DATASETS.TEST",
            "('coco_2017_person_topdown_val_det','coco_2017_person_topdown_val_gt')",
        ),
        *("TEST.POSE.BOX_SCORE_THRESH", 0.05),
        DETECTRON2_DATASETS=str(real_data),
    )
    assert "48 people of" in output
    folder = tmp_path / "inference"
    for name in REAL:
        file = folder / f"coco_2017_person_topdown_{name}/keypoints_results.json"
        assert {item["image_id"] for item in json.loads(file.read_text())} <= {785, 40083}
        assert file.with_name("pictures.png").is_file()


def test_missing_people_are_named(run_tool: Callable[..., str], tmp_path: Path) -> None:
    output = run_tool(
        "train_net.py",
        *("--config-file", POSE_CONFIG, *POSE_SMALL, "OUTPUT_DIR", tmp_path / "out"),
        fails=True,
        DETECTRON2_DATASETS=str(tmp_path),
    )
    assert "dataset 'mini_coco_person_topdown_train' cannot be loaded" in output
    assert "person_keypoints_train2017.json does not exist" in output
