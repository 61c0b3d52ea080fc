"""Finding sources, reading and writing videos, and writing predictions."""

import json
import resource
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import Metadata, MetadataCatalog
from detectron2.structures import BitMasks, Boxes, Instances
from panopticapi.utils import rgb2id
from PIL import Image
from pycocotools.coco import COCO

from metaprompt_d2.data.datasets.sem_seg_folders import load_sem_seg_folders
from metaprompt_d2.inference import PredictionFiles, Video, VideoFile, find_sources
from metaprompt_d2.utils.errors import InputError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_folders_patterns_and_files_are_found_once(tmp_path: Path) -> None:
    touch(tmp_path, "a.JPG", "deep/b.png", "clip.mp4", "notes.txt", "._a.jpg", "odd.raw")
    found = find_sources([tmp_path, f"{tmp_path}/deep/*", tmp_path / "odd.raw"])
    names = {Path(source.file).name: (source.name, source.is_video) for source in found}
    assert names == {
        "a.JPG": ("a", False),
        "b.png": ("deep/b", False),
        "clip.mp4": ("clip", True),
        "odd.raw": ("odd", False),
    }
    assert [source.name for source in find_sources([tmp_path])] == ["a", "clip", "deep/b"]


def test_an_existing_file_is_no_pattern(tmp_path: Path) -> None:
    touch(tmp_path, "shot[1].png")
    assert [source.name for source in find_sources([tmp_path / "shot[1].png"])] == ["shot[1]"]


def test_files_that_differ_in_their_suffix_keep_it(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "a.png")
    assert [source.name for source in find_sources([tmp_path])] == ["a_jpg", "a_png"]


def test_two_files_of_one_name_are_an_error(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.jpg", "y/a.jpg")
    with pytest.raises(
        ValueError, match=r"x/a\.jpg and .*y/a\.jpg would both be predicted to a_jpg"
    ):
        find_sources([tmp_path / "x/a.jpg", tmp_path / "y/a.jpg"])


def test_nothing_found_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path, "notes.txt")
    with pytest.raises(ValueError, match=r"holds no file that ends in one of \.avi"):
        find_sources([tmp_path])
    with pytest.raises(FileNotFoundError, match=r"gone\.\* isn't a file or folder"):
        find_sources([tmp_path / "gone.*"])


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    touch(tmp_path, "disk/trip/a.png", "photos/b.png", "photos/.hidden/c.png")
    (tmp_path / "photos/trip").symlink_to(tmp_path / "disk/trip")
    (tmp_path / "photos/self").symlink_to(tmp_path / "photos")
    (tmp_path / "disk/trip/back").symlink_to(tmp_path / "photos")
    (tmp_path / "photos/c.png").symlink_to(tmp_path / "photos/b.png")
    names = ["b", "c", "trip/a"]
    assert [source.name for source in find_sources([tmp_path / "photos"])] == names
    dicts = load_sem_seg_folders(str(tmp_path / "photos"), None)
    found = [source.file for source in find_sources([tmp_path / "photos"])]
    assert sorted(item["file_name"] for item in dicts) == found


@pytest.mark.parametrize("size", [(48, 64), (47, 64), (48, 63), (47, 63), (1, 1)])
def test_a_video_of_any_size_keeps_all_rows_and_columns(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    frame = np.zeros((*size, 3), np.uint8)
    frame[-1], frame[:, -1] = 255, 255  # the last row and column
    with VideoFile(tmp_path / "clip.mp4", 5) as video:
        video.write(frame)
    (read,) = Video(tmp_path / "clip.mp4")
    rows, columns = size
    assert read.shape[:2] == (rows + rows % 2, columns + columns % 2)
    assert read[rows - 1].mean() > 150 and read[:, columns - 1].mean() > 150


def test_a_link_under_a_temporary_name_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("keep me")
    (tmp_path / "clip.tmp.mp4").symlink_to(victim)
    (tmp_path / "clip.mp4").symlink_to(victim)
    with VideoFile(tmp_path / "clip.mp4", 5) as video:
        video.write(np.zeros((48, 64, 3), np.uint8))
    assert victim.read_text() == "keep me"
    assert not (tmp_path / "clip.mp4").is_symlink()


def test_a_video_is_written_and_read(tmp_path: Path) -> None:
    file = tmp_path / "made/clip.mp4"
    with VideoFile(file, 5) as video:
        for value in (0, 100, 200):
            video.write(np.full((48, 64, 3), (value, 50, 50), np.uint8))
        assert not file.exists()
    video = Video(file)
    assert (video.frames_per_second, video.num_frames) == (5, 3)
    means = [frame.mean(axis=(0, 1)) for frame in video]
    np.testing.assert_allclose(means, [[50, 50, 0], [50, 50, 100], [50, 50, 200]], atol=8)
    assert list(file.parent.iterdir()) == [file]


def test_an_interrupted_video_leaves_no_file(tmp_path: Path) -> None:
    def break_off() -> None:
        with VideoFile(tmp_path / "clip.mp4", 5) as video:
            video.write(np.zeros((48, 64, 3), np.uint8))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert list(tmp_path.iterdir()) == []


def test_videos_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_text("junk")
    with pytest.raises(ValueError, match=r"clip\.mp4 cannot be opened"):
        Video(tmp_path / "clip.mp4")
    with pytest.raises(FileNotFoundError, match=r"gone\.mp4 does not exist"):
        Video(tmp_path / "gone.mp4")


def noise_clip(file: Path, num_frames: int = 20) -> None:
    with VideoFile(file, 5) as clip:
        for _ in range(num_frames):
            clip.write(np.random.randint(0, 256, (64, 96, 3), np.uint8))


def test_a_disk_that_is_full_leaves_no_video(tmp_path: Path) -> None:
    """OpenCV reports nothing; a limit of the file's size stands in for the disk."""
    noise_clip(tmp_path / "whole.mp4")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"clip\.mp4 cannot be written: 0 of 20 frames"):
            noise_clip(tmp_path / "clip.mp4")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert [file.name for file in tmp_path.iterdir()] == ["whole.mp4"]
    assert len(list(Video(tmp_path / "whole.mp4"))) == 20


@pytest.mark.parametrize("damage", [b"\0", b"\xff"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_video_that_ends_early_says_so_after_its_last_frame(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: bytes, share: float
) -> None:
    file = tmp_path / "clip.mp4"
    noise_clip(file)
    whole = Video(file)
    assert (len(list(whole)), whole.damage) == (20, "")
    content = bytearray(file.read_bytes())
    start, end = content.find(b"mdat") + 4, content.find(b"moov") - 4
    start += int(share * (end - start))
    content[start:end] = damage * (end - start)
    file.write_bytes(content)
    video = Video(file)
    count = len(list(video))
    assert 0 < count < 20
    assert video.damage == f"video file {file} ends early: {count} of 20 frames can be read"
    assert video.damage in caplog.text


PEOPLE = MetadataCatalog.get("mini_coco_person_topdown_val")


def add(files: PredictionFiles, name: str, output: dict) -> None:
    files.add(name, output, file_name=f"{name}.jpg", size=(4, 6))


@pytest.mark.parametrize(("num_classes", "mode"), [(19, "L"), (300, "I;16")])
def test_classes_are_written_as_labels(tmp_path: Path, num_classes: int, mode: str) -> None:
    labels = torch.randint(num_classes, (4, 6))
    logits = torch.nn.functional.one_hot(labels, num_classes).permute(2, 0, 1)
    add(PredictionFiles(tmp_path, PEOPLE), "deep/a", {"sem_seg": logits})
    image = Image.open(tmp_path / "deep/a_labels.png")
    assert image.mode == mode
    assert np.array_equal(image, labels)


def test_depth_is_written_with_its_scale(tmp_path: Path) -> None:
    depth = torch.tensor([[1.5, 80.0], [float("nan"), 1000.0]])
    add(PredictionFiles(tmp_path, PEOPLE, depth_scale=256), "a", {"depth": depth})
    image = Image.open(tmp_path / "a_depth.png")
    assert image.text == {"depth_scale": "256"}
    assert np.asarray(image).tolist() == [[384, 20480], [0, 0]]
    add(PredictionFiles(tmp_path, PEOPLE, depth_scale=1000), "a", {"depth": depth})
    assert cv2.imread(str(tmp_path / "a_depth.png"), -1)[0, 0] == 1500


@pytest.mark.parametrize("scale", [100.0, 256.0, 1000.0])
def test_depth_beyond_the_scales_reach_has_no_value_and_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, scale: float
) -> None:
    meters = [1e-6, 0.001, 1.0, 65.5, 65.6, 152.0, 255.9, 256.1, 655.0, 656.0, -1.0, 0.0]
    depth = torch.tensor([*meters, float("inf"), float("nan")])[None]
    add(PredictionFiles(tmp_path, PEOPLE, depth_scale=scale), "a", {"depth": depth})
    values = np.asarray(Image.open(tmp_path / "a_depth.png"))[0]
    for value, meter in zip(values.tolist(), depth[0].tolist(), strict=True):
        if 0 < meter <= 65535.4 / scale:
            assert abs(value - meter * scale) <= 0.51 or (value == 1 and meter * scale < 1)
        else:
            assert value == 0
    beyond = sum(meter > 65535.5 / scale for meter in depth[0].tolist())
    assert f"{beyond} pixels have no value (0)" in caplog.text


@pytest.mark.parametrize("name", ["../a", "b/../../a", "/tmp/a"])
def test_names_that_lead_outside_are_refused(tmp_path: Path, name: str) -> None:
    files = PredictionFiles(tmp_path / "out", PEOPLE)
    for output in ({"depth": torch.ones(4, 6)}, {"sem_seg": torch.ones(2, 4, 6)}):
        with pytest.raises(ValueError, match="leads out of the output folder"):
            add(files, name, output)
    assert list(tmp_path.rglob("*.png")) == []


def people(*lefts: float) -> Instances:
    boxes = torch.tensor([[left, 1.0, left + 2, 4.0] for left in lefts]).view(-1, 4)
    keypoints = torch.rand(len(lefts), 17, 3)
    scores, classes = torch.ones(len(lefts)), torch.zeros(len(lefts), dtype=torch.int64)
    fields = {"pred_boxes": Boxes(boxes), "scores": scores, "pred_classes": classes}
    return Instances((4, 6), pred_keypoints=keypoints, **fields)


def test_poses_are_written_as_coco_has_them(tmp_path: Path) -> None:
    files = PredictionFiles(tmp_path, PEOPLE)
    found = people(0.0, 3.0)
    add(files, "a", {"instances": found})
    add(files, "b", {"instances": people()})
    assert list(tmp_path.iterdir()) == []
    files.close()
    coco = COCO(tmp_path / "keypoints.json")
    assert [image["file_name"] for image in coco.loadImgs([1, 2])] == ["a.jpg", "b.jpg"]
    notes = coco.loadAnns(coco.getAnnIds(imgIds=[1], catIds=coco.getCatIds(["person"])))
    assert [note["bbox"] for note in notes] == [[0, 1, 2, 3], [3, 1, 2, 3]]
    keypoints = np.reshape(notes[1]["keypoints"], (17, 3))
    np.testing.assert_allclose(keypoints[:, :2], found.pred_keypoints[1, :, :2], atol=1e-3)
    assert (keypoints[:, 2] == 2).all()
    np.testing.assert_allclose(
        notes[1]["keypoint_scores"], found.pred_keypoints[1, :, 2], atol=1e-3
    )
    assert json.loads((tmp_path / "keypoints.json").read_text())["categories"][0]["id"] == 1


def test_poses_of_several_categories_name_theirs(tmp_path: Path) -> None:
    metadata = Metadata(name="test", thing_classes=["cat", "dog"], keypoint_names=["a"] * 17)
    files, found = PredictionFiles(tmp_path, metadata), people(0.0, 3.0)
    found.pred_classes = torch.tensor([1, 0])
    add(files, "a", {"instances": found})
    files.close()
    coco = COCO(tmp_path / "keypoints.json")
    by_name = {name: coco.getAnnIds(catIds=coco.getCatIds([name])) for name in ("cat", "dog")}
    boxes = {
        name: [note["bbox"][0] for note in coco.loadAnns(ids)] for name, ids in by_name.items()
    }
    assert boxes == {"cat": [3], "dog": [0]}


def test_segments_are_written_in_cocos_formats(tmp_path: Path) -> None:
    """Read back by COCO's own tools: ids from colors, categories from 1, masks from RLE."""
    metadata = Metadata(
        name="test",
        thing_classes=["road", "car"],
        thing_dataset_id_to_contiguous_id={26: 1},
    )
    ids = torch.zeros(4, 6, dtype=torch.int32)
    ids[:2], ids[3, :3] = 1, 258
    masks = torch.zeros(1, 4, 6, dtype=torch.bool)
    masks[0, 1:3, 2:5] = True
    instances = Instances(
        (4, 6),
        pred_masks=masks,
        pred_boxes=BitMasks(masks).get_bounding_boxes(),
        pred_classes=torch.tensor([1]),
        scores=torch.tensor([0.75]),
    )
    infos = [
        {"id": 1, "isthing": False, "category_id": 0},
        {"id": 258, "isthing": True, "category_id": 1},
    ]
    files = PredictionFiles(tmp_path, metadata)
    output = {"panoptic_seg": (ids, infos), "instances": instances}
    files.add("a", output, file_name="a.png", size=(4, 6))
    files.close()
    colors = np.asarray(Image.open(tmp_path / "a_panoptic.png"))
    assert rgb2id(colors).tolist() == ids.tolist()
    panoptic = json.loads((tmp_path / "panoptic.json").read_text())
    assert panoptic["categories"] == [
        {"id": 1, "name": "road", "isthing": 0},
        {"id": 2, "name": "car", "isthing": 1},
    ]
    assert panoptic["annotations"] == [
        {
            "image_id": 1,
            "file_name": "a_panoptic.png",
            "segments_info": [
                {"id": 1, "category_id": 1, "iscrowd": 0, "area": 12},
                {"id": 258, "category_id": 2, "iscrowd": 0, "area": 3},
            ],
        }
    ]
    coco = COCO(tmp_path / "instances.json")
    (note,) = coco.loadAnns(coco.getAnnIds(imgIds=[1], catIds=coco.getCatIds(["car"])))
    assert note["bbox"] == [2, 1, 3, 2]
    assert note["score"] == 0.75
    assert coco.annToMask(note).tolist() == masks[0].int().tolist()


def test_other_outputs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="only segmentation, depth and poses"):
        add(PredictionFiles(tmp_path, PEOPLE), "a", {"proposals": None})
