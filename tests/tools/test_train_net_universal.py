"""`tools/train_net.py` and `tools/demo.py` on panoptic segmentation."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mini_training import UNIVERSAL_CONFIG, UNIVERSAL_SMALL, losses
from panopticapi.utils import rgb2id
from PIL import Image

TEST = "mini_panoptic_val"
COMMON = ["train_net.py", "--config-file", UNIVERSAL_CONFIG, *UNIVERSAL_SMALL]


@pytest.fixture(scope="module")
def trained(run_tool: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output folder of a training of three updates."""
    output_dir = tmp_path_factory.mktemp("trained")
    run_tool(*COMMON, "SOLVER.MAX_ITER", 3, "OUTPUT_DIR", output_dir)
    return output_dir


def _metrics(output_dir: Path) -> dict[str, float]:
    lines = (output_dir / "metrics.json").read_text().splitlines()
    (*_, last) = (entry for entry in map(json.loads, lines) if "panoptic_seg/PQ" in entry)
    return last


def test_training_leaves_losses_of_all_layers_and_metrics_of_all_outputs(trained: Path) -> None:
    assert sorted(losses(trained)) == [0, 1, 2]
    names = {"loss_cross_entropy", "loss_mask", "loss_dice"}
    expected = names | {f"{name}_0" for name in names} | {"total_loss"}
    assert set(losses(trained)[2][0]) == expected
    metrics = _metrics(trained)
    for name in ("panoptic_seg/PQ", "sem_seg/mIoU", "segm/AP", "bbox/AP"):
        assert 0 <= metrics[name] <= 100
    with Image.open(trained / "inference" / TEST / "pictures.png") as pictures:
        assert pictures.width == 3 * (128 + 4) - 4


def test_two_processes_score_as_one(run_tool: Callable[..., str], trained: Path) -> None:
    before = _metrics(trained)
    checkpoint = ["MODEL.WEIGHTS", trained / "model_final.pth"]
    tasks = run_tool(
        *COMMON[:3], "--eval-only", "--num-gpus", 2, "--dist-url", "auto", *COMMON[3:], *checkpoint,
        "OUTPUT_DIR", trained / "again",
    )  # fmt: skip
    line = next(line for line in tasks.splitlines() if "copypaste: PQ," in line)
    values = tasks.splitlines()[tasks.splitlines().index(line) + 1].rpartition(" ")[2]
    assert float(values.split(",")[0]) == pytest.approx(before["panoptic_seg/PQ"], abs=1e-3)


def test_demo_writes_pictures_and_segments(
    run_tool: Callable[..., str], trained: Path, mini_data: Path, tmp_path: Path
) -> None:
    image = next((mini_data / "mini/cityscapes/leftImg8bit/val").rglob("*.png"))
    run_tool(
        "demo.py", "--config-file", trained / "config.yaml", "--input", image,
        "--output", tmp_path, "--raw", "--opts", "MODEL.WEIGHTS", trained / "model_final.pth",
    )  # fmt: skip
    panoptic = json.loads((tmp_path / "panoptic.json").read_text())
    (annotation,) = panoptic["annotations"]
    ids = rgb2id(np.asarray(Image.open(tmp_path / annotation["file_name"])))
    areas = {info["id"]: info["area"] for info in annotation["segments_info"]}
    assert areas == {number: int((ids == number).sum()) for number in np.unique(ids[ids > 0])}
    assert len(panoptic["categories"]) == 19
    assert json.loads((tmp_path / "instances.json").read_text())["images"] == panoptic["images"]
