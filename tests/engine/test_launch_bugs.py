"""A bug in a user's mapper, head or evaluator shows its traceback, with file and line."""

import traceback
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import default_argument_parser
from detectron2.evaluation import DatasetEvaluator
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from helpers import smallest_cfg
from random_weights import random_weights

from metaprompt_d2.data import DATASET_MAPPERS_REGISTRY, SemSegMapper, register_sem_seg_folders
from metaprompt_d2.engine import launch_main, train_or_evaluate
from metaprompt_d2.evaluation import EVALUATORS_REGISTRY
from metaprompt_d2.modeling import UPerHead

SMALL = {
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 3,
    "MODEL.SEM_SEG_HEAD.NORM": "",
    "TEST.SLIDING_WINDOW.ENABLED": False,
    "SOLVER.BEST_METRIC": "",
    "SOLVER.IMS_PER_BATCH": 1,
    "SOLVER.MAX_ITER": 1,
    "DATALOADER.NUM_WORKERS": 1,
    "INPUT.MIN_SIZE_TRAIN": (64,),
    "INPUT.MAX_SIZE_TRAIN": 64,
    "INPUT.MIN_SIZE_TEST": 0,
    "INPUT.CROP.SIZE": [64, 64],
}


def unpack(values: object) -> None:
    _, _ = values, values, values  # the bug


@DATASET_MAPPERS_REGISTRY.register()
class BuggyMapper(SemSegMapper):
    def __call__(self, dataset_dict: dict) -> dict:
        unpack(dataset_dict)


@SEM_SEG_HEADS_REGISTRY.register()
class BuggyHead(UPerHead):
    def forward(self, features, targets=None):
        unpack(features)


class BuggyEvaluator(DatasetEvaluator):
    def process(self, inputs, outputs) -> None:
        unpack(inputs)


@EVALUATORS_REGISTRY.register()
def buggy_sem_seg(cfg, name: str, output_dir: str) -> list[DatasetEvaluator]:
    return [BuggyEvaluator()]


@pytest.fixture
def argv(tmp_path: Path) -> Iterator[list[str]]:
    """Command line of a training on one image, registered with the buggy evaluator."""
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    cv2.imwrite(str(tmp_path / "images/0.png"), np.zeros((64, 64, 3), np.uint8))
    cv2.imwrite(str(tmp_path / "labels/0.png"), np.zeros((64, 64), np.uint8))
    name = str(tmp_path)
    folders = str(tmp_path / "images"), str(tmp_path / "labels")
    register_sem_seg_folders(name, *folders, ["a", "b", "c"], evaluator_type="buggy_sem_seg")
    names = {"DATASETS.TRAIN": (name,), "DATASETS.TEST": (name,)}
    config = tmp_path / "config.yaml"
    config.write_text(smallest_cfg(SMALL | names | {"OUTPUT_DIR": str(tmp_path / "out")}).dump())
    yield ["--config-file", str(config)]
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


@pytest.mark.parametrize(
    "options",
    [
        ["INPUT.DATASET_MAPPER_NAME", "BuggyMapper"],
        ["INPUT.DATASET_MAPPER_NAME", "BuggyMapper", "DATALOADER.NUM_WORKERS", "0"],
        ["MODEL.SEM_SEG_HEAD.NAME", "BuggyHead"],
        ["--eval-only"],
    ],
    ids=["mapper in a worker", "mapper", "head", "evaluator"],
)
def test_a_bug_of_a_user_shows_its_traceback(
    options: list[str], argv: list[str], capsys: pytest.CaptureFixture
) -> None:
    flags = [option for option in options if option.startswith("--")]
    keys = [option for option in options if not option.startswith("--")]
    keys += random_weights(argv[1]) if flags else ()
    args = default_argument_parser().parse_args([*flags, *argv, *keys])
    with pytest.raises(ValueError, match="too many values to unpack") as found:
        launch_main(train_or_evaluate, args)
    shown = "".join(traceback.format_exception(found.value))
    assert f'File "{__file__}", line ' in shown
    assert "# the bug" in shown


@pytest.mark.parametrize(
    ("key", "name"),
    [
        ("INPUT.DATASET_MAPPER_NAME", "Mapper"),
        ("MODEL.BACKBONE.NAME", "Backbone"),
        ("MODEL.META_ARCHITECTURE", "Architecture"),
        ("MODEL.SEM_SEG_HEAD.NAME", "Head"),
    ],
)
def test_a_name_that_is_not_registered_is_one_line(key: str, name: str, argv: list[str]) -> None:
    args = default_argument_parser().parse_args([*argv, key, name])
    with pytest.raises(SystemExit, match=f"error: {key} is '{name}', expected one of") as stop:
        launch_main(train_or_evaluate, args)
    assert "\n" not in stop.value.code


def test_an_output_folder_that_cannot_be_made_is_one_line(tmp_path: Path, argv: list[str]) -> None:
    (tmp_path / "file").write_text("")
    args = default_argument_parser().parse_args([*argv, "OUTPUT_DIR", str(tmp_path / "file/out")])
    with pytest.raises(SystemExit, match="error: OUTPUT_DIR .*file/out: ") as stop:
        launch_main(train_or_evaluate, args)
    assert "\n" not in stop.value.code
