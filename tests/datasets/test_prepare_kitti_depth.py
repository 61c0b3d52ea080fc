"""`datasets/prepare_kitti_depth.py` on small trees in KITTI's layout."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import pytest
from depth_files import kitti_files, write_kitti_frame

from metaprompt_d2.data.datasets.kitti import DRIVES, TEST_FRAMES, load_kitti_eigen

SCRIPT = Path(__file__).resolve().parents[2] / "datasets" / "prepare_kitti_depth.py"
TRAIN_DRIVE, TEST_DRIVE = DRIVES["train"][0], DRIVES["test"][0]


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("prepare_kitti_depth", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPT.parent)  # as Python does for a script
        spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One pair of every drive: the second of the frames for testing, frame 5 for training."""
    root = tmp_path_factory.mktemp("complete") / "kitti"
    for drive in DRIVES["train"]:
        write_kitti_frame(root, drive, 5)
    for drive in DRIVES["test"]:
        write_kitti_frame(root, drive, sorted(TEST_FRAMES[drive])[1], "val")
    return root


@pytest.fixture
def root(complete: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    return shutil.copytree(complete, tmp_path / "kitti")


def lines(root: Path, name: str) -> list[str]:
    return (root / name).read_text().splitlines()


def ids(root: Path) -> dict[str, list[str]]:
    return {
        split: [item["image_id"] for item in load_kitti_eigen(str(root), split, kb_crop=True)]
        for split in DRIVES
    }


def test_lists_say_what_the_folders_do(
    script: ModuleType, root: Path, capsys: pytest.CaptureFixture
) -> None:
    before = ids(root)
    script.main(["--root", str(root)])
    assert len(lines(root, "train_list.txt")) == 33
    assert lines(root, "train_list.txt")[0] == (
        f"/raw_data/2011_09_26/{TRAIN_DRIVE}/image_02/data/0000000005.png "
        f"/data_depth_annotated/train/{TRAIN_DRIVE}/proj_depth/groundtruth/image_02/0000000005.png"
    )
    assert len(lines(root, "test_list.txt")) == 28
    assert ids(root) == before
    assert "test: 28 pairs (652 are published)" in capsys.readouterr().out


def test_a_second_run_checks_the_lists_and_keeps_them(
    script: ModuleType, root: Path, capsys: pytest.CaptureFixture
) -> None:
    script.main(["--root", str(root)])
    (root / "train_list.txt").write_text("\n".join(lines(root, "train_list.txt")[:7]) + "\n")
    before = [file.read_bytes() for file in sorted(root.glob("*.txt"))]
    script.main(["--root", str(root)])
    assert [file.read_bytes() for file in sorted(root.glob("*.txt"))] == before
    output = capsys.readouterr().out
    assert "train_list.txt lists 7 pairs (23158 are published; delete it to" in output


def test_listed_files_that_are_missing_are_counted_and_named(
    script: ModuleType, root: Path, capsys: pytest.CaptureFixture
) -> None:
    script.main(["--root", str(root)])
    image, truth = kitti_files(root, TRAIN_DRIVE, 5, "train")
    image.unlink()
    truth.unlink()
    with pytest.raises(SystemExit, match="files of train are missing"):
        script.main(["--root", str(root)])
    output = capsys.readouterr().out
    assert f"train: 2 listed files are missing: {image}, {truth}" in output


def test_what_is_missing_is_counted_and_named_and_no_list_written(
    script: ModuleType, root: Path, capsys: pytest.CaptureFixture
) -> None:
    drives = DRIVES["train"]
    for drive in drives[:7]:
        shutil.rmtree(root / f"raw_data/2011_09_26/{drive}")
    shutil.rmtree(root / f"data_depth_annotated/train/{drives[8]}")
    image, _ = kitti_files(root, drives[9], 5, "train")
    image.unlink()
    with pytest.raises(SystemExit, match="error: files of train are missing"):
        script.main(["--root", str(root)])
    output = capsys.readouterr().out
    assert "train: 24 pairs (23158 are published)" in output
    first = ", ".join(drives[:5])
    assert f"7 of 33 drives have no raw_data/<date>/<drive>/image_02/data: {first}, ..." in output
    assert "1 of 33 drives have no data_depth_annotated/" in output
    assert f"groundtruth/image_02: {drives[8]}\n" in output
    assert "train: 1 depth maps have no image: " in output
    assert not (root / "train_list.txt").exists()
    assert len(lines(root, "test_list.txt")) == 28  # of the split that is complete


def test_lists_of_what_is_there_are_written_on_demand(script: ModuleType, root: Path) -> None:
    shutil.rmtree(root / f"raw_data/2011_09_26/{TEST_DRIVE}")
    with pytest.raises(SystemExit, match="files of test are missing"):
        script.main(["--root", str(root), "--allow-missing"])
    assert len(lines(root, "test_list.txt")) == 27
    assert not any(TEST_DRIVE in line for line in lines(root, "test_list.txt"))
    assert not list(root.glob(".*"))


def test_a_missing_root_is_explained(script: ModuleType, tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"nowhere does not exist; datasets/README\.md"):
        script.main(["--root", str(tmp_path / "nowhere")])


def test_the_mini_worlds_format_is_understood(
    script: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    for split, name in (("train", "train_list.txt"), ("val", "test_list.txt")):
        write_kitti_frame(tmp_path, TRAIN_DRIVE, 0, split)
        image, truth = kitti_files(tmp_path, TRAIN_DRIVE, 0, split)
        line = f"/{image.relative_to(tmp_path)} /{truth.relative_to(tmp_path)}\n"
        (tmp_path / name).write_text(line)
    script.main(["--root", str(tmp_path)])
    assert "test_list.txt lists 1 pairs" in capsys.readouterr().out
