"""`PictureWriter`: one row for each of the first images."""

from pathlib import Path

import numpy as np
import torch
from detectron2.data import DatasetCatalog
from helpers import registered_cityscapes, write_cityscapes
from PIL import Image

from metaprompt_d2.engine import PictureWriter

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


def test_without_ground_truth_two_pictures_stand_in_a_row(tmp_path: Path) -> None:
    assert written(tmp_path, 1, with_truth=False).shape == (ROW, 2 * WIDTH + 4, 3)


def test_zero_pictures_write_no_file(tmp_path: Path) -> None:
    assert written(tmp_path, 0) is None


def test_a_second_evaluation_starts_anew(tmp_path: Path) -> None:
    write_cityscapes(tmp_path, num_images=2, height=HEIGHT, width=WIDTH)
    with registered_cityscapes(tmp_path) as name:
        writer = PictureWriter(name, str(tmp_path / "results"), 5)
        item = DatasetCatalog.get(name)[0]
        for _ in range(2):
            writer.reset()
            writer.process([item], [{"sem_seg": torch.randn(19, HEIGHT, WIDTH)}])
            writer.evaluate()
    assert Image.open(tmp_path / "results/pictures.png").height == ROW
