"""The scripts that convert label maps: ADE20K, Mapillary, more Cityscapes."""

import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from scripts import run_script

from metaprompt_d2.data.datasets.sem_seg_folders import load_sem_seg_folders


def run(script: str, root: Path, *arguments: object) -> subprocess.CompletedProcess:
    return run_script(f"datasets/{script}", "--root", root, "--workers", 2, *arguments)


def write(file: Path, *ids: int) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(file), np.array([ids], np.uint8))


def read(file: Path) -> list[int]:
    return cv2.imread(str(file), cv2.IMREAD_UNCHANGED)[0].tolist()


def ade(root: Path) -> Path:
    for split in ("training", "validation"):
        for number in range(3):
            write(root / f"annotations/{split}/ADE_{number}.png", 0, 1, 150, number)
    return root / "annotations_detectron2"


def test_ade20k_counts_from_zero_and_ignores_zero(tmp_path: Path) -> None:
    made = ade(tmp_path)
    result = run("prepare_ade20k_sem_seg.py", tmp_path)
    assert result.returncode == 0, result.stderr
    assert "3/3" in result.stderr
    for split in ("training", "validation"):
        assert len(list((made / split).iterdir())) == 3
        assert read(made / split / "ADE_2.png") == [255, 0, 149, 1]


def test_a_stopped_run_goes_on_and_keeps_what_is_there(tmp_path: Path) -> None:
    made = ade(tmp_path)
    write(made / "training/ADE_1.png", 7)
    write(made / "training/.partial-1-ADE_2.png", 7)
    assert run("prepare_ade20k_sem_seg.py", tmp_path).returncode == 0
    assert read(made / "training/ADE_1.png") == [7]
    assert read(made / "training/ADE_2.png") == [255, 0, 149, 1]


def test_ade20k_ids_above_150_are_refused_by_name(tmp_path: Path) -> None:
    made = ade(tmp_path)
    write(tmp_path / "annotations/training/ADE_1.png", 3, 151)
    result = run("prepare_ade20k_sem_seg.py", tmp_path)
    assert result.returncode != 0
    assert "ADE_1.png holds id 151, expected 0..150" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (made / "training/ADE_1.png").exists()


@pytest.mark.parametrize("folder", ["labels", "v1.2/labels"])
def test_mapillary_is_mapped_next_to_its_labels(tmp_path: Path, folder: str) -> None:
    for split in ("training", "validation"):
        write(tmp_path / split / folder / "a.png", 13, 41, 65, 255, 55)
    result = run("prepare_mapillary_cityscapes.py", tmp_path)
    assert result.returncode == 0, result.stderr
    assert read(tmp_path / "training/labels_cityscapes/a.png") == [0, 0, 255, 255, 13]
    assert (tmp_path / "validation/labels_cityscapes/a.png").is_file()


def test_mapillary_of_version_2_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "training/labels/a.png", 13, 100)
    result = run("prepare_mapillary_cityscapes.py", tmp_path)
    assert result.returncode != 0
    assert "a.png is of Mapillary v2.0" in result.stderr
    write(tmp_path / "second/training/v2.0/labels/a.png", 13)
    result = run("prepare_mapillary_cityscapes.py", tmp_path / "second")
    assert "v2.0/labels cannot be used" in result.stderr


def extra(root: Path) -> None:
    for number in range(3):
        write(root / f"leftImg8bit/train_extra/ulm/ulm_000000_00000{number}_leftImg8bit.png", 1)


def test_coarse_labels_become_training_ids(tmp_path: Path) -> None:
    extra(tmp_path)
    coarse = tmp_path / "gtCoarse/train_extra"
    write(coarse / "ulm/ulm_000000_000001_gtCoarse_labelIds.png", 0, 7, 26, 33)
    result = run("prepare_cityscapes_extra.py", tmp_path)
    assert result.returncode == 0, result.stderr
    made = coarse / "ulm/ulm_000000_000001_gtCoarse_labelTrainIds.png"
    assert read(made) == [255, 0, 13, 18]
    (item,) = load_sem_seg_folders(
        tmp_path / "leftImg8bit/train_extra",
        coarse,
        image_suffix="_leftImg8bit.png",
        label_suffix="_gtCoarse_labelTrainIds.png",
    )
    assert item["sem_seg_file_name"] == str(made)


def test_another_models_labels_get_the_official_names(tmp_path: Path) -> None:
    extra(tmp_path)
    write(tmp_path / "auto/ulm/ulm_000000_000000_leftImg8bit.png", 7, 33, 4)
    write(tmp_path / "auto/ulm/ulm_000000_000002_pred.png", 7, 33, 4)
    result = run("prepare_cityscapes_extra.py", tmp_path, "--autolabelled", tmp_path / "auto")
    assert result.returncode == 0, result.stderr
    assert "1 of 3 images have no label map" in result.stdout
    made = tmp_path / "convert_autolabelled/ulm"
    assert {file.name for file in made.iterdir()} == {
        f"ulm_000000_00000{number}_gtFine_labelTrainIds.png" for number in (0, 2)
    }
    assert read(made / "ulm_000000_000002_gtFine_labelTrainIds.png") == [0, 18, 255]


@pytest.mark.parametrize(
    ("ids", "values", "message"),
    [("train", (0, 33), r"holds ids [33], expected training ids"), ("label", (7, 40), "[40]")],
)
def test_the_wrong_kind_of_ids_is_refused(
    tmp_path: Path, ids: str, values: tuple, message: str
) -> None:
    extra(tmp_path)
    write(tmp_path / "auto/ulm/ulm_000000_000000.png", *values)
    auto = ("--autolabelled", tmp_path / "auto", "--ids", ids)
    result = run("prepare_cityscapes_extra.py", tmp_path, *auto)
    assert result.returncode != 0
    assert message in result.stderr


def test_training_ids_are_kept(tmp_path: Path) -> None:
    extra(tmp_path)
    write(tmp_path / "auto/ulm/ulm_000000_000000.png", 0, 18, 255)
    auto = ("--autolabelled", tmp_path / "auto", "--ids", "train")
    assert run("prepare_cityscapes_extra.py", tmp_path, *auto).returncode == 0
    made = tmp_path / "convert_autolabelled/ulm/ulm_000000_000000_gtFine_labelTrainIds.png"
    assert read(made) == [0, 18, 255]
