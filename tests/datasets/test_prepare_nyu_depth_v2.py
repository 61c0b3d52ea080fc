"""`datasets/prepare_nyu_depth_v2.py` on small files in MATLAB's formats."""

from __future__ import annotations

import subprocess
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
import scipy.io
from scripts import run_script

from metaprompt_d2.data.datasets.nyu_depth_v2 import load_nyu_depth_v2
from metaprompt_d2.data.readers import read_depth

SCENES = ["bathroom", "home_office", "bathroom", "study"]
TEST = [1, 3, 4]  # MATLAB counts from 1
NAMES = {"bathroom": (0, 2), "study": (3,)}


def contents() -> tuple[np.ndarray, np.ndarray]:
    """Images (N, 480, 640, 3) RGB, smooth so that JPEG keeps them, and depth (N, 480, 640)."""
    random = np.random.default_rng(0)
    coarse = random.integers(40, 216, (len(SCENES), 4, 5, 3), np.uint8)
    images = np.stack([cv2.resize(image, (640, 480)) for image in coarse])
    depths = random.uniform(0.5, 9.99, (len(SCENES), 480, 640)).astype(np.float32)
    depths[:, :9, :9] = 0
    return images, depths


def write_labeled(file: Path) -> None:
    """As MATLAB v7.3 saves it: axes reversed, strings as references to character codes."""
    images, depths = contents()
    with h5py.File(file, "w") as data:
        data["images"] = images.transpose(0, 3, 2, 1)
        data["rawDepths"] = depths.transpose(0, 2, 1)
        references = []
        for index, scene in enumerate(SCENES):
            codes = np.array([[ord(letter)] for letter in scene], np.uint16)
            references.append(data.create_dataset(f"#refs#/{index}", data=codes).ref)
        data["sceneTypes"] = np.array([references], h5py.ref_dtype)


def write_splits(file: Path, indices: list[int] = TEST) -> None:
    train = [index for index in range(1, len(SCENES) + 1) if index not in indices]
    variables = {"testNdxs": np.array([indices]).T, "trainNdxs": np.array([train]).T}
    scipy.io.savemat(file, variables)


def run(*arguments: str | Path) -> subprocess.CompletedProcess:
    return run_script("datasets/prepare_nyu_depth_v2.py", *arguments)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("sources")
    write_labeled(folder / "labeled.mat")
    write_splits(folder / "splits.mat")
    return folder / "labeled.mat", folder / "splits.mat"


@pytest.fixture(scope="module")
def made(sources: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete result that no test changes."""
    output = tmp_path_factory.mktemp("made") / "nyu_depth_v2"
    result = run(*sources, "--output", output)
    assert result.returncode == 0, result.stderr
    assert "3 test pairs" in result.stdout
    return output


def test_the_test_pairs_and_nothing_else_are_written(made: Path) -> None:
    files = {str(file.relative_to(made)) for file in made.rglob("*") if file.is_file()}
    expected = {"test_list.txt"}
    for scene, indices in NAMES.items():
        for index in indices:
            expected.add(f"official_splits/test/{scene}/rgb_{index:05d}.jpg")
            expected.add(f"official_splits/test/{scene}/sync_depth_{index:05d}.png")
    assert files == expected
    assert (made / "test_list.txt").read_text().splitlines() == [
        "/bathroom/rgb_00000.jpg /bathroom/sync_depth_00000.png",
        "/bathroom/rgb_00002.jpg /bathroom/sync_depth_00002.png",
        "/study/rgb_00003.jpg /study/sync_depth_00003.png",
    ]


def test_pairs_hold_what_the_mat_file_does(made: Path) -> None:
    images, depths = contents()
    dicts = load_nyu_depth_v2(str(made), "test")
    assert len(dicts) == 3
    for item in dicts:
        index = int(item["image_id"][-5:])
        pixels = cv2.imread(item["file_name"])[..., ::-1].astype(int)
        assert pixels.shape == (480, 640, 3)
        inside = np.zeros((480, 640), bool)
        inside[7:474, 7:632] = True
        difference = np.abs(pixels - images[index])[20:460, 20:620]
        assert difference.mean() < 2
        assert pixels[inside].min() > 0
        # JPEG's 16x16 blocks blur the border.
        assert pixels[480 - 1].max() < 30 and pixels[:, 639].max() < 30 and pixels[0].max() < 60
        raw = cv2.imread(item["depth_file_name"], cv2.IMREAD_UNCHANGED)
        assert raw.dtype == np.uint16
        assert np.array_equal(raw, (depths[index] * 1000.0).astype(np.uint16))
        depth = read_depth(item["depth_file_name"], item["depth_scale"])
        np.testing.assert_allclose(depth, depths[index], atol=1.001e-3)


def test_a_second_run_goes_on_where_the_first_ended(
    made: Path, sources: tuple[Path, Path], tmp_path: Path
) -> None:
    output = tmp_path / "again"
    folder = output / "official_splits/test/bathroom"
    folder.mkdir(parents=True)
    for name in ("rgb_00000.jpg", "sync_depth_00000.png"):  # finished: to be kept
        (folder / name).write_text("kept")
    (folder / "sync_depth_00002.png").write_text("without its image")
    result = run(*sources, "--output", output)
    assert result.returncode == 0, result.stderr
    assert (folder / "rgb_00000.jpg").read_text() == "kept"
    assert (folder / "sync_depth_00000.png").read_text() == "kept"
    original = made / "official_splits/test/bathroom"
    for name in ("rgb_00002.jpg", "sync_depth_00002.png"):
        assert (folder / name).read_bytes() == (original / name).read_bytes()
    assert (output / "test_list.txt").read_bytes() == (made / "test_list.txt").read_bytes()
    assert not list(output.rglob("*partial*"))


def failure(*arguments: str | Path) -> str:
    result = run(*arguments)
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    return result.stderr


def test_a_mat_file_that_is_not_v73_is_refused_by_name(
    sources: tuple[Path, Path], tmp_path: Path
) -> None:
    scipy.io.savemat(tmp_path / "old.mat", {"images": np.zeros(3)})
    message = failure(tmp_path / "old.mat", sources[1], "--output", tmp_path / "out")
    assert (
        "old.mat isn't a MATLAB v7.3 (HDF5) file, it starts with 'MATLAB 5.0 MAT-file'" in message
    )
    (tmp_path / "empty.mat").touch()
    message = failure(tmp_path / "empty.mat", sources[1], "--output", tmp_path / "out")
    assert "empty.mat isn't a MATLAB v7.3 (HDF5) file, it is empty" in message
    assert not (tmp_path / "out").exists()


def test_a_mat_file_that_was_not_wholly_downloaded_is_refused_by_name(
    sources: tuple[Path, Path], tmp_path: Path
) -> None:
    content = sources[0].read_bytes()
    (tmp_path / "half.mat").write_bytes(content[: len(content) // 2])
    message = failure(tmp_path / "half.mat", sources[1], "--output", tmp_path / "out")
    assert "half.mat is damaged, perhaps not wholly downloaded" in message


def test_a_mat_file_without_the_variables_is_refused_by_name(
    sources: tuple[Path, Path], tmp_path: Path
) -> None:
    with h5py.File(tmp_path / "other.mat", "w") as data:
        data["images"] = np.zeros((1, 3, 4, 5), np.uint8)
    message = failure(tmp_path / "other.mat", sources[1], "--output", tmp_path / "out")
    assert "other.mat has no variables ['rawDepths', 'sceneTypes'], only ['images']" in message


def test_a_mat_file_of_other_shapes_is_refused_by_name(
    sources: tuple[Path, Path], tmp_path: Path
) -> None:
    with h5py.File(tmp_path / "other.mat", "w") as data:
        data["images"] = np.zeros((2, 3, 4, 5), np.uint8)
        data["rawDepths"] = np.zeros((2, 5, 4), np.float32)
        data["sceneTypes"] = np.zeros((1, 2))
    message = failure(tmp_path / "other.mat", sources[1], "--output", tmp_path / "out")
    assert "other.mat: images are (2, 3, 4, 5) and rawDepths (2, 5, 4), expected" in message


def test_wrong_splits_are_refused_by_name(sources: tuple[Path, Path], tmp_path: Path) -> None:
    output = ("--output", tmp_path / "out")
    (tmp_path / "text.mat").write_text("no MATLAB file at all, but long enough to be looked at")
    message = failure(sources[0], tmp_path / "text.mat", *output)
    assert "text.mat cannot be read as a MATLAB file" in message
    scipy.io.savemat(tmp_path / "other.mat", {"trainNdxs": np.ones(3)})
    message = failure(sources[0], tmp_path / "other.mat", *output)
    assert "other.mat has no variable testNdxs, only ['trainNdxs']" in message
    write_splits(tmp_path / "beyond.mat", [1, 5])
    message = failure(sources[0], tmp_path / "beyond.mat", *output)
    assert "beyond.mat: testNdxs names images [5] of 4" in message


@pytest.mark.parametrize("number", [0, 1])
def test_a_missing_file_is_named(sources: tuple[Path, Path], tmp_path: Path, number: int) -> None:
    files: list[Path] = list(sources)
    files[number] = tmp_path / "gone.mat"
    assert "gone.mat does not exist" in failure(*files, "--output", tmp_path / "out")
