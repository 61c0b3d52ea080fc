"""`tools/train_net.py` on depth: train, evaluate in one and two processes, real and bad input."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from depth_files import write_depth
from mini_training import DEPTH_CONFIG, DEPTH_SMALL, free_port, losses, metrics_of
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

TEST = "mini_kitti_eigen_test"
TRAINING = [*DEPTH_SMALL, *"SOLVER.MAX_ITER 6 TEST.EVAL_PERIOD 4".split()]
COMMON = ["train_net.py", "--config-file", DEPTH_CONFIG]
NUM_METRICS = 10  # before the numbers of images


def entries(output_dir: Path) -> list[dict]:
    """The lines of metrics.json that an evaluation wrote."""
    lines = (output_dir / "metrics.json").read_text().splitlines()
    return [entry for entry in map(json.loads, lines) if "depth/rmse" in entry]


@pytest.fixture(scope="module")
def trained(run_tool: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output folder of a training in one process."""
    output_dir = tmp_path_factory.mktemp("trained")
    run_tool(*COMMON, *TRAINING, "OUTPUT_DIR", output_dir)
    return output_dir


@pytest.fixture
def world(mini_data: Path, tmp_path: Path) -> Path:
    """A copy of the depth data that a test may damage."""
    shutil.copytree(mini_data / "mini/kitti", tmp_path / "data/mini/kitti")
    return tmp_path / "data"


def depth_files(world: Path, split: str) -> list[Path]:
    root = world / "mini/kitti"
    lines = (root / f"{split}_list.txt").read_text().splitlines()
    return [root / line.split()[1].lstrip("/") for line in lines]


def test_training_leaves_losses_metrics_pictures_and_the_best_checkpoint(trained: Path) -> None:
    assert sorted(losses(trained)) == [0, 1, 2, 3, 4, 5]
    measured = entries(trained)
    assert len(measured) == 2  # at iteration 4 and at the end
    assert all(np.isfinite([entry["depth/rmse"], entry["depth/d1"]]).all() for entry in measured)
    best = min(entry["depth/rmse"] for entry in measured)
    assert json.loads((trained / "model_best.json").read_text())["value"] == pytest.approx(best)
    with Image.open(trained / "inference" / TEST / "pictures.png") as pictures:
        assert pictures.width == 4 * (128 + 4) - 4
        assert pictures.height > 5 * 64
    events = EventAccumulator(str(trained))
    events.Reload()
    assert f"{TEST}/pictures" in events.Tags()["images"]


def test_evaluation_is_the_same_in_one_process_and_two(
    run_tool: Callable[..., str], trained: Path, tmp_path: Path
) -> None:
    options = [*DEPTH_SMALL, "MODEL.WEIGHTS", trained / "model_final.pth"]
    options += ["TEST.DEPTH_EVAL.SAVE_PNG", "True", "OUTPUT_DIR"]
    alone = run_tool(*COMMON, "--eval-only", *options, tmp_path / "alone")
    url = f"tcp://127.0.0.1:{free_port()}"
    processes = ["--num-gpus", 2, "--dist-url", url]
    two = run_tool(*COMMON, "--eval-only", *processes, *options, tmp_path / "two")
    assert metrics_of(alone) == metrics_of(two)
    assert metrics_of(alone)[NUM_METRICS:] == [5, 0, 0]  # each image once
    assert metrics_of(alone)[5] == pytest.approx(entries(trained)[-1]["depth/rmse"], abs=1e-4)
    for run in ("alone", "two"):
        files = list((tmp_path / run / "inference" / TEST / "depth").rglob("*.png"))
        assert len(files) == 5
        assert cv2.imread(str(files[0]), cv2.IMREAD_UNCHANGED).dtype == np.uint16


def test_a_checkpoint_of_two_processes_has_the_metrics_of_their_evaluation(
    run_tool: Callable[..., str], tmp_path: Path
) -> None:
    """BatchNorm is not synchronized: each process has its own statistics."""
    url = f"tcp://127.0.0.1:{free_port()}"
    options = [*DEPTH_SMALL, "SOLVER.MAX_ITER", 3, "SOLVER.BASE_LR", 1e-4]
    options += ["TEST.AUG.ENABLED", "False", "OUTPUT_DIR"]
    processes = ["--num-gpus", 2, "--dist-url", url]
    training = run_tool(*COMMON, *processes, *options, tmp_path / "training")
    assert sorted(losses(tmp_path / "training")) == [0, 1, 2]
    weights = ["MODEL.WEIGHTS", tmp_path / "training/model_final.pth"]
    evaluation = run_tool(*COMMON, "--eval-only", *weights, *options, tmp_path / "evaluation")
    assert metrics_of(training) == metrics_of(evaluation)


def test_the_real_nyu_image_is_evaluated(
    run_tool: Callable[..., str], trained: Path, real_data: Path, tmp_path: Path
) -> None:
    output = run_tool(
        *(*COMMON, "--eval-only", *DEPTH_SMALL, "MODEL.WEIGHTS", trained / "model_final.pth"),
        *("DATASETS.TEST", "('nyu_depth_v2_train',)", "TEST.SHIFTED_WINDOWS.COUNT", 2),
        *("MODEL.DEPTH_HEAD.MAX_DEPTH", 10.0, "OUTPUT_DIR", tmp_path),
        DETECTRON2_DATASETS=str(real_data),
    )
    values = metrics_of(output)
    assert np.isfinite(values).all()
    assert 0 < values[5] < 10
    assert values[NUM_METRICS:] == [1, 0, 0]
    with Image.open(tmp_path / "inference/nyu_depth_v2_train/pictures.png") as pictures:
        assert pictures.width == 4 * (160 + 4) - 4


@pytest.mark.parametrize(
    ("damage", "error"),
    [
        (lambda file: file.unlink(), r"error: depth file (\S+) does not exist"),
        (
            lambda file: write_depth(file, np.ones((60, 128))),
            r"error: depth file (\S+) is 60x128 \(height x width\), its image \S+ is 64x128",
        ),
        (
            lambda file: cv2.imwrite(str(file), np.ones((64, 128), np.uint8)),
            r"error: depth file (\S+) has 8 bits, expected a 16-bit PNG",
        ),
    ],
    ids=["missing", "other size", "8 bits"],
)
def test_a_damaged_depth_file_stops_training_with_its_name(
    run_tool: Callable[..., str],
    world: Path,
    tmp_path: Path,
    damage: Callable[[Path], object],
    error: str,
) -> None:
    files = depth_files(world, "train")
    for file in files:
        damage(file)
    output = run_tool(
        *(*COMMON, *DEPTH_SMALL, "OUTPUT_DIR", tmp_path / "out"),
        fails=True,
        DETECTRON2_DATASETS=str(world),
    )
    message = re.search(error, output)
    assert message, output[-2000:]
    assert Path(message[1]) in files


def test_a_bad_line_of_a_list_is_named(
    run_tool: Callable[..., str], world: Path, tmp_path: Path
) -> None:
    list_file = world / "mini/kitti/train_list.txt"
    lines = list_file.read_text().splitlines()
    list_file.write_text("\n".join([lines[0], f"{lines[1]} 721.5 1", *lines[2:]]))
    output = run_tool(
        *(*COMMON, *DEPTH_SMALL, "OUTPUT_DIR", tmp_path / "out"),
        fails=True,
        DETECTRON2_DATASETS=str(world),
    )
    assert re.search(r"error: .*train_list\.txt.*2\b.*4 columns", output), output[-2000:]


def test_images_without_a_depth_value_train_nothing_and_are_named_in_the_evaluation(
    run_tool: Callable[..., str], world: Path, tmp_path: Path
) -> None:
    empty = depth_files(world, "test")[2]
    for file in [*depth_files(world, "train"), empty]:
        write_depth(file, np.zeros((64, 128)))
    output = run_tool(
        *(*COMMON, *DEPTH_SMALL, "SOLVER.MAX_ITER", 2, "OUTPUT_DIR", tmp_path / "out"),
        DETECTRON2_DATASETS=str(world),
    )
    assert [entry[0]["total_loss"] for entry in losses(tmp_path / "out").values()] == [0, 0]
    assert metrics_of(output)[NUM_METRICS:] == [4, 1, 0]
    assert "1 images have no pixel with ground truth to score and are left out" in output
    assert empty.name in output[output.index("are left out: ") :].splitlines()[0]
