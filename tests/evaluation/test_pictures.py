"""`PictureWriter`: one row for each of the first images, by task, and for TensorBoard."""

import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from depth_files import write_pair
from detectron2.data import DatasetCatalog, Metadata
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from helpers import registered_cityscapes, write_cityscapes
from PIL import Image

import metaprompt_d2.evaluation.pictures
from metaprompt_d2.evaluation import (
    PICTURES_REGISTRY,
    MergedEvaluators,
    PictureWriter,
    draw_prediction,
)
from metaprompt_d2.utils.errors import InputError

HEIGHT, WIDTH = 28, 40
ROW = HEIGHT + 14 + 4  # title and gap


def written(root: Path, num_pictures: int, *, with_truth: bool = True) -> np.ndarray | None:
    write_cityscapes(root, num_images=3, height=HEIGHT, width=WIDTH)
    file = root / "results/pictures.png"
    with registered_cityscapes(root) as name:
        writer = PictureWriter(name, str(root / "results"), num_pictures)
        writer.reset()
        for item in DatasetCatalog.get(name):
            if not with_truth:
                del item["sem_seg_file_name"]
            writer.process([item], [{"sem_seg": torch.randn(19, HEIGHT, WIDTH)}])
        assert writer.evaluate() is None
    return np.asarray(Image.open(file)) if file.is_file() else None


def test_as_many_rows_as_asked_for_are_written(tmp_path: Path) -> None:
    assert written(tmp_path, 2).shape == (2 * ROW, 3 * WIDTH + 2 * 4, 3)


def test_no_more_rows_than_images_are_written(tmp_path: Path) -> None:
    assert written(tmp_path, 9).shape[0] == 3 * ROW


def test_rows_of_photographs_are_shrunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metaprompt_d2.evaluation.pictures, "_MAX_WIDTH", (3 * WIDTH + 2 * 4) // 2)
    assert written(tmp_path, 2).shape == (2 * ((HEIGHT + 14) // 2 + 4), (3 * WIDTH + 2 * 4) // 2, 3)


def test_without_ground_truth_two_pictures_stand_in_a_row(tmp_path: Path) -> None:
    assert written(tmp_path, 1, with_truth=False).shape == (ROW, 2 * WIDTH + 4, 3)


def test_zero_pictures_write_no_file(tmp_path: Path) -> None:
    assert written(tmp_path, 0) is None


def test_a_second_evaluation_starts_from_scratch(tmp_path: Path) -> None:
    write_cityscapes(tmp_path, num_images=2, height=HEIGHT, width=WIDTH)
    with registered_cityscapes(tmp_path) as name:
        writer = PictureWriter(name, str(tmp_path / "results"), 5)
        item = DatasetCatalog.get(name)[0]
        for _ in range(2):
            writer.reset()
            writer.process([item], [{"sem_seg": torch.randn(19, HEIGHT, WIDTH)}])
            writer.evaluate()
    assert Image.open(tmp_path / "results/pictures.png").height == ROW


def test_a_training_s_tensorboard_gets_the_picture(tmp_path: Path) -> None:
    with EventStorage(7) as storage:
        picture = written(tmp_path, 2)
        ((name, image, iteration),) = storage._vis_data
    assert name.startswith("test_cityscapes_") and name.endswith("/pictures")
    assert iteration == 7
    assert np.array_equal(image, picture.transpose(2, 0, 1))


def depth_pictures(root: Path, item: dict, depth: torch.Tensor) -> np.ndarray:
    writer = PictureWriter("kitti_eigen_test", str(root), 1)
    writer.process([item], [{"depth": depth}])
    writer.evaluate()
    return np.asarray(Image.open(root / "pictures.png"))


@pytest.mark.parametrize(("with_truth", "columns"), [(True, 4), (False, 2)])
def test_depth_is_drawn_beside_its_image_truth_and_error(
    tmp_path: Path, with_truth: bool, columns: int
) -> None:
    write_pair(tmp_path / "image.png", tmp_path / "depth.png", HEIGHT, WIDTH)
    item = {"file_name": str(tmp_path / "image.png")}
    if with_truth:
        item |= {"depth_file_name": str(tmp_path / "depth.png"), "depth_scale": 256.0}
    picture = depth_pictures(tmp_path, item, torch.rand(HEIGHT, WIDTH) * 80)
    assert picture.shape == (ROW + 2 * 14, columns * (WIDTH + 4) - 4, 3)  # scale bars below


def test_kittis_pictures_show_the_cropped_frame(tmp_path: Path) -> None:
    write_pair(tmp_path / "image.png", tmp_path / "depth.png", 375, 1242)
    item = {
        "file_name": str(tmp_path / "image.png"),
        "depth_file_name": str(tmp_path / "depth.png"),
        "depth_scale": 256.0,
        "kb_crop": True,
    }
    picture = depth_pictures(tmp_path, item, torch.full((352, 1216), 5.0))
    title = 352 // 14
    assert picture.shape[1] == 4 * (1216 + 4) - 4
    image = cv2.imread(item["file_name"])[..., ::-1]
    assert np.array_equal(picture[title : title + 352, :1216], image[23:, 13:1229])


def test_people_of_an_image_are_drawn_together_with_their_categories(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    drawn = []
    monkeypatch.setattr(
        metaprompt_d2.evaluation.pictures, "draw_prediction", lambda *parts: drawn.append(parts)
    )
    writer = PictureWriter("test_people", "", 1)
    writer.reset()
    for category in (1, 0):
        found = Instances((HEIGHT, WIDTH), pred_classes=torch.tensor([category]))
        found.pred_boxes, found.pred_keypoints = Boxes([[0, 0, 9, 9]]), torch.zeros(1, 3, 3)
        writer.process([{"file_name": "a.png"}], [{"instances": found}])
    writer.evaluate()
    ((_, output, _),) = drawn
    assert output["instances"].pred_classes.tolist() == [1, 0]


def test_pictures_of_ones_own_go_by_evaluator_type_or_by_output() -> None:
    def own_pictures(item: dict, output: dict, metadata: Metadata) -> np.ndarray:
        return np.full((3, 3, 3), item["value"], np.uint8)

    PICTURES_REGISTRY.register(own_pictures)
    try:
        by_type = draw_prediction(
            {"value": 5}, {"depth": None}, Metadata(name="a", evaluator_type="own_pictures")
        )
        by_output = draw_prediction({"value": 6}, {"own_pictures": None}, Metadata(name="b"))
    finally:
        del PICTURES_REGISTRY._obj_map["own_pictures"]
    assert (by_type == 5).all() and (by_output == 6).all()


def test_an_output_without_a_picture_is_left_out() -> None:
    heights = {"sem_seg": torch.rand(1, HEIGHT, WIDTH)}
    assert draw_prediction({}, heights, Metadata(name="no_classes")) is None
    assert draw_prediction({}, {"unheard_of": 1}, Metadata(name="unheard_of")) is None
    boxes = {"instances": Instances((HEIGHT, WIDTH))}
    assert draw_prediction({}, boxes, Metadata(name="boxes")) is None


class _Metrics(DatasetEvaluator):
    def evaluate(self) -> dict:
        return {"depth": {"rmse": 1.0}}


def break_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dataset without `max_depth`."""


def break_own_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    registered = dict(PICTURES_REGISTRY) | {"depth": lambda *_: {}["key"]}
    monkeypatch.setattr(PICTURES_REGISTRY, "_obj_map", registered)


def break_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    row = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    monkeypatch.setattr(metaprompt_d2.evaluation.pictures, "draw_prediction", lambda *_: row)

    def write(*_: object) -> None:
        raise InputError("pictures.png cannot be written: No space left on device")

    monkeypatch.setattr(metaprompt_d2.evaluation.pictures, "write_png", write)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (break_metadata, "a.png is left out: metadata of dataset 'test_failing' has no max_depth"),
        (break_own_picture, "a.png is left out: 'key'"),
        (break_disk, "pictures.png is left out: .*No space left on device"),
    ],
)
def test_a_picture_that_fails_does_not_end_the_evaluation(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    break_it: Callable[[pytest.MonkeyPatch], None],
    message: str,
) -> None:
    break_it(monkeypatch)
    write_pair(tmp_path / "a.png", tmp_path / "depth.png", HEIGHT, WIDTH)
    writer = PictureWriter("test_failing", str(tmp_path / "out"), 1)
    evaluator = MergedEvaluators([_Metrics(), writer])
    evaluator.reset()
    inputs = [{"file_name": str(tmp_path / "a.png")}]
    evaluator.process(inputs, [{"depth": torch.ones(HEIGHT, WIDTH)}])
    assert evaluator.evaluate() == {"depth": {"rmse": 1.0}}
    assert re.search(message, caplog.text)
    assert not (tmp_path / "out/pictures.png").exists()
