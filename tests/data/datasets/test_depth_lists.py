"""NYU Depth v2, KITTI and the mini world's KITTI: lists, folders, splits, errors."""

import logging
from pathlib import Path

import pytest
from depth_files import kitti_files, write_kitti_frame, write_nyu_pair
from detectron2.data import DatasetCatalog, MetadataCatalog

from metaprompt_d2.data import load_dataset_dicts
from metaprompt_d2.data.datasets.depth_lists import read_list, resolve_pairs
from metaprompt_d2.data.datasets.kitti import (
    DRIVES,
    TEST_FRAMES,
    find_pairs,
    load_kitti_benchmark,
    load_kitti_eigen,
)
from metaprompt_d2.data.datasets.nyu_depth_v2 import load_nyu_depth_v2
from metaprompt_d2.utils.errors import InputError

TRAIN_DRIVE = "2011_09_26_drive_0001_sync"
TEST_DRIVE = "2011_09_26_drive_0002_sync"


def written(file: Path, *lines: str) -> str:
    file.write_text("\n".join(lines) + "\n")
    return str(file)


# ------------------------------------------------------------------ lists


def test_two_and_three_columns_are_read_alike(tmp_path: Path) -> None:
    two = written(tmp_path / "two.txt", "/a/rgb.jpg /a/depth.png\t", "", "/b/rgb.jpg  /b/depth.png")
    three = written(tmp_path / "three.txt", "a/rgb.jpg a/depth.png 518.8579", "b/rgb.jpg None 5e2")
    assert read_list(two) == [("a/rgb.jpg", "a/depth.png"), ("b/rgb.jpg", "b/depth.png")]
    assert read_list(three) == [("a/rgb.jpg", "a/depth.png")]


def test_entries_without_depth_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = written(tmp_path / "list.txt", "a None 1.0", "b c 1.0", "d None")
    with caplog.at_level(logging.INFO, logger="metaprompt_d2"):
        assert read_list(file) == [("b", "c")]
    assert "list.txt: 2 entries have no depth" in caplog.text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("only_one.jpg", r"list\.txt, line 3: 1 columns, expected two .* or three"),
        ("a b 1.0 c", r"list\.txt, line 3: 4 columns, expected two .* or three"),
        ("a.jpg b.png c.png", r"list\.txt, line 3: the third column is 'c\.png', expected a focal"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    file = written(tmp_path / "list.txt", "a b", "", line)
    with pytest.raises(ValueError, match=message):
        read_list(file)


@pytest.mark.parametrize("lines", [(), ("a None 1.0",)])
def test_a_list_without_pairs_is_refused_by_name(tmp_path: Path, lines: tuple) -> None:
    with pytest.raises(ValueError, match=r"list\.txt lists no image with depth"):
        read_list(written(tmp_path / "list.txt", *lines))


SPACED = [("living room 1/rgb 1.jpg", "living room 1/depth 1.png"), ("a/ü.PNG", "b c/d.tiff")]
_WAYS = {
    "tab": "{}\t{}",
    "tabs": "{}\t\t{}\t518.8",
    "quotes": '"{}" "{}"',
    "quotes and focal length": '"/{}"   "/{}" 721.5',
    "as it is": "{} {}",
    "as it is, with focal length": "/{} /{} 7.2e2",
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("way", _WAYS)
def test_paths_may_hold_spaces_and_files_come_from_windows(
    tmp_path: Path, way: str, ending: str, encoding: str
) -> None:
    lines = [_WAYS[way].format(*pair) for pair in SPACED]
    file = tmp_path / "list.txt"
    file.write_bytes("".join(line + ending for line in lines).encode(encoding))
    assert read_list(str(file)) == SPACED


def test_a_quote_that_is_not_closed_is_named(tmp_path: Path) -> None:
    file = written(tmp_path / "list.txt", '"a b.png" "c d.png')
    with pytest.raises(InputError, match=r"list\.txt, line 1: No closing quotation"):
        read_list(file)


def test_a_path_belongs_to_the_base_that_holds_its_leading_folder(tmp_path: Path) -> None:
    (tmp_path / "second/scene").mkdir(parents=True)
    (tmp_path / "first").mkdir()
    pairs = [("scene/a", "scene/b"), ("unknown/a", "unknown/b")]
    assert resolve_pairs(str(tmp_path), pairs, ("first", "second"), ("", "second")) == [
        (f"{tmp_path}/second/scene/a", f"{tmp_path}/second/scene/b"),
        (f"{tmp_path}/first/unknown/a", f"{tmp_path}/unknown/b"),
    ]


# ------------------------------------------------------------------ NYU Depth v2


def test_a_list_that_is_not_text_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"a.png b.png\n\xee\x00")
    with pytest.raises(InputError, match=r"list\.txt isn't a text file"):
        read_list(str(tmp_path / "list.txt"))


@pytest.mark.parametrize(
    ("split", "folder", "name", "line"),
    [
        ("train", "sync", "train_list.txt", "/den/rgb_00001.jpg /den/sync_depth_00001.png"),
        (
            "train",
            "sync",
            "nyudepthv2_train_files_with_gt.txt",
            "/den/rgb_00001.jpg /den/sync_depth_00001.png 518.8579",
        ),
        (
            "test",
            "official_splits/test",
            "nyudepthv2_test_files_with_gt.txt",
            "official_splits/test/den/rgb_00001.jpg den/sync_depth_00001.png 518.8579",
        ),
        (
            "test",
            "official_splits/test",
            "test_list.txt",
            "/den/rgb_00001.jpg /den/sync_depth_00001.png",
        ),
    ],
)
def test_nyu_lists(tmp_path: Path, split: str, folder: str, name: str, line: str) -> None:
    for number in (1, 2):
        write_nyu_pair(tmp_path / folder, "den", number)
    written(tmp_path / name, line)
    (item,) = load_nyu_depth_v2(str(tmp_path), split)
    assert item == {
        "file_name": f"{tmp_path}/{folder}/den/rgb_00001.jpg",
        "depth_file_name": f"{tmp_path}/{folder}/den/sync_depth_00001.png",
        "depth_scale": 1000.0,
        "image_id": "den_rgb_00001",
    }


@pytest.mark.parametrize(("split", "folder"), [("train", "sync"), ("test", "official_splits/test")])
def test_nyu_folders_serve_where_there_is_no_list(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, split: str, folder: str
) -> None:
    for scene, number in (("study", 2), ("den", 7), ("den", 3)):
        write_nyu_pair(tmp_path / folder, scene, number)
    (tmp_path / folder / "den/sync_depth_00007.png").unlink()
    (tmp_path / folder / "README.txt").touch()
    with caplog.at_level(logging.INFO, logger="metaprompt_d2"):
        dicts = load_nyu_depth_v2(str(tmp_path), split)
    assert [item["image_id"] for item in dicts] == ["den_rgb_00003", "study_rgb_00002"]
    assert all(Path(item["depth_file_name"]).is_file() for item in dicts)
    assert "1 images have no depth" in caplog.text


def test_nyu_without_list_and_folder_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"test_list\.txt or .*official_splits/test"):
        load_nyu_depth_v2(str(tmp_path), "test")


def test_nyu_without_pairs_says_what_a_pair_is(tmp_path: Path) -> None:
    (tmp_path / "sync/den").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"sync holds no pair <scene>/rgb_<number>\.jpg"):
        load_nyu_depth_v2(str(tmp_path), "train")


def test_the_real_sample_is_found(real_data: Path) -> None:
    (item,) = load_nyu_depth_v2(str(real_data / "nyu_depth_v2"), "train")
    assert item["image_id"] == "bookstore_0001d_rgb_00001"
    assert Path(item["file_name"]).is_file()
    assert Path(item["depth_file_name"]).is_file()


# ------------------------------------------------------------------ KITTI


def test_eigens_split_has_its_published_numbers() -> None:
    assert len(DRIVES["train"]) == 33
    assert len(TEST_FRAMES) == 28
    assert not set(DRIVES["train"]) & set(TEST_FRAMES)
    # 25 frames of every test drive but one, which is shorter.
    sizes = {drive: len(frames) for drive, frames in TEST_FRAMES.items()}
    assert sum(sizes.values()) == 697
    assert {drive for drive, size in sizes.items() if size != 25} == {"2011_09_26_drive_0048_sync"}
    assert min(map(min, TEST_FRAMES.values())) == 0


@pytest.mark.parametrize("name", ["train_list.txt", "eigen_train_files_with_gt.txt"])
@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("raw", ["raw_data/", ""])
def test_kitti_lists_of_both_styles(tmp_path: Path, name: str, merged: bool, raw: str) -> None:
    # BTS's lists start from raw_data and from the drives' ground truth, whose folders
    # {train,val} its users merge.
    image, truth = kitti_files(tmp_path, TRAIN_DRIVE, 5, "val")
    write_kitti_frame(tmp_path, TRAIN_DRIVE, 5, "val")
    if not raw:
        for folder in (tmp_path / "raw_data").iterdir():
            folder.rename(tmp_path / folder.name)
        image = Path(str(image).replace("raw_data/", ""))
    if merged:
        (tmp_path / f"data_depth_annotated/val/{TRAIN_DRIVE}").rename(
            tmp_path / f"data_depth_annotated/{TRAIN_DRIVE}"
        )
        truth = Path(str(truth).replace("/val", ""))
    if name == "train_list.txt":
        written(tmp_path / name, f"/{image.relative_to(tmp_path)} /{truth.relative_to(tmp_path)}")
    else:
        place = f"{TRAIN_DRIVE}/proj_depth/groundtruth/image_02/0000000005.png"
        image_place = f"2011_09_26/{TRAIN_DRIVE}/image_02/data/0000000005.png"
        written(tmp_path / name, f"{image_place} {place} 721.5377")
    (item,) = load_kitti_eigen(str(tmp_path), "train", kb_crop=True)
    assert item == {
        "file_name": str(image),
        "depth_file_name": str(truth),
        "depth_scale": 256.0,
        "image_id": f"{TRAIN_DRIVE}_0000000005",
        "kb_crop": True,
    }
    assert image.is_file()
    assert truth.is_file()


def test_images_of_the_right_camera_have_ids_of_their_own(tmp_path: Path) -> None:
    image = f"/raw_data/2011_09_26/{TRAIN_DRIVE}/image_0{{}}/data/0000000005.png"
    lines = [f"{image.format(camera)} /depth.png" for camera in (2, 3)]
    written(tmp_path / "train_list.txt", *lines)
    dicts = load_kitti_eigen(str(tmp_path), "train", kb_crop=False)
    assert [item["image_id"] for item in dicts] == [
        f"{TRAIN_DRIVE}_0000000005",
        f"{TRAIN_DRIVE}_image_03_0000000005",
    ]


def test_kittis_drives_are_split_as_eigen_did(tmp_path: Path) -> None:
    for drive, frame, folder in (
        (TRAIN_DRIVE, 5, "train"),
        (TRAIN_DRIVE, 6, "train"),
        ("2011_09_26_drive_0070_sync", 7, "val"),
        (TEST_DRIVE, 3, "val"),  # one of the 697
        (TEST_DRIVE, 4, "val"),  # none of them
        ("2011_09_28_drive_0038_sync", 5, "train"),  # category campus: not in the split
    ):
        write_kitti_frame(tmp_path, drive, frame, folder)
    ids = {
        split: [item["image_id"] for item in load_kitti_eigen(str(tmp_path), split, kb_crop=True)]
        for split in ("train", "test")
    }
    assert ids["train"] == [
        f"{TRAIN_DRIVE}_0000000005",
        f"{TRAIN_DRIVE}_0000000006",
        "2011_09_26_drive_0070_sync_0000000007",
    ]
    assert ids["test"] == [f"{TEST_DRIVE}_0000000003"]


def test_ground_truth_without_image_is_told_and_images_may_be_jpeg(tmp_path: Path) -> None:
    for frame in (5, 6, 7):
        write_kitti_frame(tmp_path, TRAIN_DRIVE, frame)
    images = [kitti_files(tmp_path, TRAIN_DRIVE, frame, "train")[0] for frame in (6, 7)]
    images[0].unlink()
    images[1].rename(images[1].with_suffix(".jpg"))
    pairs, alone = find_pairs(str(tmp_path), "train", TRAIN_DRIVE)
    assert [Path(image).name for image, _ in pairs] == ["0000000005.png", "0000000007.jpg"]
    assert [Path(file).name for file in alone] == ["0000000006.png"]
    assert find_pairs(str(tmp_path), "train", DRIVES["train"][-1]) == ([], [])


def test_kitti_without_list_and_folders_says_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"train_list\.txt or .*data_depth_annotated"):
        load_kitti_eigen(str(tmp_path), "train", kb_crop=True)
    (tmp_path / "data_depth_annotated").mkdir()
    with pytest.raises(FileNotFoundError, match="no frame of the 28 drives of Eigen's test split"):
        load_kitti_eigen(str(tmp_path), "test", kb_crop=True)


def test_the_benchmarks_images_have_no_ground_truth(tmp_path: Path) -> None:
    for name in ("0000000001.png", "0000000000.png", "calib.txt"):
        written(tmp_path / name, "")
    dicts = load_kitti_benchmark(str(tmp_path))
    assert dicts == [
        {"file_name": str(tmp_path / f"{stem}.png"), "image_id": stem}
        for stem in ("0000000000", "0000000001")
    ]
    metadata = MetadataCatalog.get("kitti_depth_prediction_test")
    assert (metadata.evaluator_type, metadata.max_depth) == ("depth", 80.0)


def test_a_missing_folder_of_the_benchmark_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere holds no PNG"):
        load_kitti_benchmark(str(tmp_path / "nowhere"))


# ------------------------------------------------------------------ registration


@pytest.mark.parametrize(
    ("name", "crop", "max_depth"),
    [
        ("nyu_depth_v2", "nyu", 10.0),
        ("kitti_eigen", "garg", 80.0),
        ("mini_kitti_eigen", "none", 80.0),
    ],
)
@pytest.mark.parametrize("split", ["train", "test"])
def test_names_and_metadata(name: str, split: str, crop: str, max_depth: float) -> None:
    assert f"{name}_{split}" in DatasetCatalog.list()
    metadata = MetadataCatalog.get(f"{name}_{split}")
    assert metadata.evaluator_type == "depth"
    assert metadata.crop == crop
    assert (metadata.min_depth, metadata.max_depth) == (1e-3, max_depth)


def test_a_missing_dataset_is_explained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "kitti_eigen_test"
    monkeypatch.setitem(
        DatasetCatalog.data, name, lambda: load_kitti_eigen(str(tmp_path), "test", kb_crop=True)
    )
    with pytest.raises(FileNotFoundError, match=rf"'{name}' cannot be loaded.*data_root .*kitti"):
        load_dataset_dicts(name)


def test_a_wrong_list_line_is_named_through_the_loader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path / "test_list.txt", "a b c d")
    monkeypatch.setitem(
        DatasetCatalog.data, "nyu_depth_v2_test", lambda: load_nyu_depth_v2(str(tmp_path), "test")
    )
    with pytest.raises(ValueError, match=r"test_list\.txt, line 1: 4 columns"):
        load_dataset_dicts("nyu_depth_v2_test")
