"""Checks that `datasets/make_mini.py` writes consistent, reproducible and complete datasets."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from cityscapesscripts.helpers.labels import id2label, name2label
from detectron2.data import DatasetCatalog, MetadataCatalog
from scripts import ROOT, run_script

from metaprompt_d2.data import register_keypoints

SCRIPT = ROOT / "datasets/make_mini.py"
ARGUMENTS = ["--num-train", "4", "--num-val", "2", "--height", "64", "--width", "128"]
COUNTS = {"train": 4, "val": 2}
FRAMES = [(split, index) for split, count in COUNTS.items() for index in range(count)]


def run(output: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Run the script; later arguments win over the small sizes of the tests."""
    return run_script(SCRIPT, "--output", output, *ARGUMENTS, *arguments)


def contents(root: Path) -> dict[str, bytes]:
    """All files below `root`."""
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small dataset that no test changes."""
    root = tmp_path_factory.mktemp("made") / "mini"
    result = run(root)
    assert result.returncode == 0, result.stderr
    return root


def label_map(root: Path, split: str, index: int, kind: str) -> np.ndarray:
    """One of the label maps of a Cityscapes frame."""
    city = {"train": "minitown", "val": "minival"}[split]
    name = f"{city}_000000_{index:06d}_gtFine_{kind}.png"
    path = root / "cityscapes" / "gtFine" / split / city / name
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert pixels is not None, path
    return pixels


def depth_map(root: Path, split: str, index: int) -> np.ndarray:
    """Depth in meters of a KITTI frame, found through the list files; 0 = no value."""
    name = {"train": "train_list.txt", "val": "test_list.txt"}[split]
    line = (root / "kitti" / name).read_text().splitlines()[index]
    image, depth = (root / "kitti" / path.lstrip("/") for path in line.split())
    assert image.is_file()
    pixels = cv2.imread(str(depth), cv2.IMREAD_UNCHANGED)
    assert pixels.dtype == np.uint16
    return pixels / 256.0


def people(root: Path) -> list[tuple[str, dict]]:
    """All COCO annotations with their splits."""
    found = []
    for split in COUNTS:
        path = root / "coco" / "annotations" / f"person_keypoints_{split}2017.json"
        found += [(split, note) for note in json.loads(path.read_text())["annotations"]]
    return found


def test_same_seed_gives_the_same_bytes(mini: Path, tmp_path: Path) -> None:
    assert run(tmp_path / "again").returncode == 0
    assert contents(tmp_path / "again") == contents(mini)


def test_scenes_depend_on_their_index_and_the_seed_only(mini: Path, tmp_path: Path) -> None:
    fewer, other = tmp_path / "fewer", tmp_path / "other"
    assert run(fewer, "--num-train", "1", "--num-val", "1").returncode == 0
    assert run(other, "--num-train", "1", "--num-val", "1", "--seed", "1").returncode == 0
    pictures = {
        name: data for name, data in contents(fewer).items() if name.endswith((".png", ".jpg"))
    }
    full, reseeded = contents(mini), contents(other)
    assert pictures and all(full[name] == data for name, data in pictures.items())
    images = [name for name in pictures if "leftImg8bit" in name]
    assert all(reseeded[name] != pictures[name] for name in images)


@pytest.mark.parametrize(("split", "index"), FRAMES)
def test_label_maps_agree(mini: Path, split: str, index: int) -> None:
    labels = label_map(mini, split, index, "labelIds")
    train, instances = (
        label_map(mini, split, index, kind) for kind in ("labelTrainIds", "instanceIds")
    )
    assert labels.shape == (64, 128)
    assert labels.dtype == np.uint8 and train.dtype == np.uint8 and instances.dtype == np.uint16
    for value in np.unique(labels):
        expected = id2label[int(value)].trainId
        assert 0 <= expected < 19 or value == name2label["static"].id
        assert (train[labels == value] == expected).all()
    things = np.isin(labels, [label.id for label in id2label.values() if label.hasInstances])
    assert (instances[things] // 1000 == labels[things]).all()
    assert (instances[~things] == labels[~things]).all()


@pytest.mark.parametrize(("split", "index"), FRAMES)
def test_polygons_redraw_the_labels(mini: Path, split: str, index: int) -> None:
    labels = label_map(mini, split, index, "labelIds")
    city = {"train": "minitown", "val": "minival"}[split]
    name = f"{city}_000000_{index:06d}_gtFine_polygons.json"
    content = json.loads((mini / "cityscapes" / "gtFine" / split / city / name).read_text())
    assert (content["imgHeight"], content["imgWidth"]) == labels.shape
    drawn = np.zeros_like(labels)
    for thing in content["objects"]:
        cv2.fillPoly(drawn, [np.array(thing["polygon"])], name2label[thing["label"]].id)
    assert (drawn == labels).mean() > 0.93


@pytest.mark.parametrize(("split", "index"), FRAMES)
def test_depth_fits_the_labels(mini: Path, split: str, index: int) -> None:
    depth, labels = depth_map(mini, split, index), label_map(mini, split, index, "labelIds")
    assert (depth[labels == name2label["sky"].id] == 0).all()
    assert depth.max() <= 80
    for name in ("person", "road", "sidewalk"):
        near = (labels == name2label[name].id) & (np.arange(64)[:, None] > 44)
        assert (depth[near] > 0).all()
    road = np.where(labels == name2label["road"].id, depth, np.nan)
    upper, lower = road[:-1], road[1:]
    both = (upper > 0) & (lower > 0)
    assert both.any()
    assert (lower[both] < upper[both]).all()


def test_city_folders_hold_images_only(mini: Path) -> None:
    for folder in (mini / "cityscapes" / "leftImg8bit").glob("*/*"):
        names = [path.name for path in folder.iterdir()]
        assert names and all(name.endswith("_leftImg8bit.png") for name in names)


def test_train_and_val_use_different_drives(mini: Path) -> None:
    drives = {
        name: {line.split("/")[3] for line in (mini / "kitti" / name).read_text().splitlines()}
        for name in ("train_list.txt", "test_list.txt")
    }
    assert not drives["train_list.txt"] & drives["test_list.txt"]


@pytest.mark.parametrize("split", list(COUNTS))
@pytest.mark.parametrize(
    ("folder", "kind", "category_id", "numbers"),
    [("coco", "person", 1, (17, 19)), ("coco_animals", "animal", 18, (9, 8))],
)
def test_pycocotools_reads_the_annotations(
    mini: Path, split: str, folder: str, kind: str, category_id: int, numbers: tuple[int, int]
) -> None:
    coco_tools = pytest.importorskip("pycocotools.coco")
    root = mini / folder
    coco = coco_tools.COCO(str(root / "annotations" / f"{kind}_keypoints_{split}2017.json"))
    count = COUNTS[split]
    assert len(coco.getImgIds()) == (count if kind == "person" else count // 2)
    category = coco.loadCats(category_id)[0]
    assert (len(category["keypoints"]), len(category["skeleton"])) == numbers
    for image in coco.loadImgs(coco.getImgIds()):
        pixels = cv2.imread(str(root / f"{split}2017" / image["file_name"]))
        assert pixels.shape == (image["height"], image["width"], 3)
    for note in coco.loadAnns(coco.getAnnIds()):
        assert note["category_id"] == category_id
        mask = coco.annToMask(note)
        assert abs(int(mask.sum()) - note["area"]) <= 0.2 * note["area"] + 6
        x, y, w, h = note["bbox"]
        assert 0 <= x < x + w <= 128 and 0 <= y < y + h <= 64


def test_one_call_registers_the_dogs(mini: Path) -> None:
    root, builtin = mini / "coco_animals", MetadataCatalog.get("mini_coco_animal_topdown_train")
    file = root / "annotations/animal_keypoints_train2017.json"
    register_keypoints("test_dogs", str(file), str(root / "train2017"))
    try:
        found = MetadataCatalog.get("test_dogs")
        for key in ("thing_classes", "keypoint_names", "keypoint_connection_rules"):
            assert found.get(key) == builtin.get(key)
        assert all(Path(dog["file_name"]).is_file() for dog in DatasetCatalog.get("test_dogs"))
    finally:
        DatasetCatalog.remove("test_dogs")
        MetadataCatalog.remove("test_dogs")


def test_keypoints_lie_on_their_person(mini: Path) -> None:
    seen = 0
    for split, note in people(mini):
        instances = label_map(mini, split, note["image_id"], "instanceIds")
        keypoints = np.array(note["keypoints"]).reshape(17, 3)
        assert note["num_keypoints"] == (keypoints[:, 2] > 0).sum()
        assert (keypoints[keypoints[:, 2] == 0] == 0).all()
        visible = keypoints[keypoints[:, 2] == 2]
        values = set(instances[visible[:, 1], visible[:, 0]].tolist())
        assert len(values) <= 1 and all(value // 1000 == 24 for value in values)
        seen += len(visible)
    assert seen > 20


def test_only_medium_and_large_people_have_keypoints(mini: Path) -> None:
    least = 32**2 / (256 * 512) * 64 * 128  # COCO's 32 x 32 pixels at the default size
    labeled = {True: 0, False: 0}
    for _, note in people(mini):
        labeled[note["area"] >= least] += note["num_keypoints"] > 0
    assert labeled[True] > 3 and labeled[False] == 0


def test_keypoints_behind_other_things_are_unlabeled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    from mini_world.scene import render_scene

    hidden = 0
    for index in range(4):
        scene = render_scene((0, 0, index), 64, 128)
        for value, keypoints in scene.posed:
            x, y, visibility = keypoints[keypoints[:, 2] > 0].T
            assert (scene.instance_ids[y, x] == value).all()
            hidden += (visibility == 1).sum()
    assert hidden > 0  # behind the person's own body


def test_left_is_the_persons_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    from mini_world.people import KEYPOINT_NAMES, sample_person

    for seed in range(20):
        person = sample_person(np.random.default_rng(seed), 0.0, 0.0, 8.0)
        up = np.array([0.0, 1.0, 0.0])
        # X right, Y up, Z ahead is a left-handed frame: up x ahead points to the right.
        right = np.cross(up, person.ahead)
        assert set(KEYPOINT_NAMES) <= set(person.points)
        for part in ("eye", "ear", "shoulder", "hip"):
            across = person.points[f"right_{part}"] - person.points[f"left_{part}"]
            assert across @ right > 0
        assert (person.points["nose"] - person.points["head"]) @ person.ahead > 0
        if person.ahead[2] < -0.9:  # seen from the front, his left is on the image's right
            assert person.points["left_hip"][0] > person.points["right_hip"][0]


def test_keypoints_of_dogs_lie_on_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    from mini_world.park import render_park

    flags = np.zeros(3, int)
    for index in range(4):
        scene = render_park((0, 0, index), 64, 128)
        for value, keypoints in scene.posed:
            assert keypoints.shape == (9, 3)
            x, y, visibility = keypoints[keypoints[:, 2] > 0].T
            assert (scene.instance_ids[y, x] == value).all()
            flags += np.bincount(keypoints[:, 2], minlength=3)
    # Some are behind the dog's own body, and most are seen.
    assert min(flags) > 0 and flags[2] > 2 * flags[:2].sum()


def test_left_is_the_dogs_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    from mini_world.dogs import KEYPOINT_NAMES, dog_keypoints, sample_dog

    for seed in range(20):
        dog = sample_dog(np.random.default_rng(seed), 0.0, 0.0, 8.0)
        points = dict(zip(KEYPOINT_NAMES, dog_keypoints(dog).points, strict=True))
        right = np.cross([0.0, 1.0, 0.0], dog.ahead)  # as for people
        for part in ("front_paw", "hind_paw"):
            assert (points[f"right_{part}"] - points[f"left_{part}"]) @ right > 0
        gaze = (points["nose"] - dog.points["head"]) * (1, 0, 1)
        across = points["right_ear"] - points["left_ear"]
        assert across @ np.cross([0.0, 1.0, 0.0], gaze) > 0
        assert (points["neck"] - points["tail"]) @ dog.ahead > 0


def test_second_call_does_nothing(mini: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in mini.rglob("*")}
    result = run(mini)
    assert result.returncode == 0 and "nothing to do" in result.stdout
    assert before == {path: path.stat().st_mtime_ns for path in mini.rglob("*")}


def test_refuses_to_replace_something_else(mini: Path, tmp_path: Path) -> None:
    result = run(mini, "--seed", "5")
    assert result.returncode != 0 and "--overwrite" in result.stderr
    precious = tmp_path / "out" / "precious.txt"
    precious.parent.mkdir()
    precious.write_text("keep me")
    few = ["--num-train", "1", "--num-val", "1"]
    result = run(precious.parent, *few)
    assert result.returncode != 0 and precious.read_text() == "keep me"
    result = run(precious.parent, *few, "--overwrite")
    assert result.returncode != 0 and "precious.txt" in result.stderr
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "precious.txt"]


def test_overwrite_replaces_only_what_the_script_made(tmp_path: Path) -> None:
    few = ["--num-train", "1", "--num-val", "1", "--overwrite"]
    assert run(tmp_path / "out", *few).returncode == 0
    assert run(tmp_path / "out", *few, "--seed", "3").returncode == 0
    assert json.loads((tmp_path / "out/mini.json").read_text())["seed"] == 3
    (tmp_path / "out/mine").mkdir()
    result = run(tmp_path / "out", *few)
    assert result.returncode != 0 and "mine" in result.stderr
    assert (tmp_path / "out/mine").is_dir() and (tmp_path / "out/kitti").is_dir()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_run_leaves_nothing(tmp_path: Path, stop: signal.Signals) -> None:
    command = [sys.executable, str(SCRIPT), "--output", str(tmp_path / "mini")]
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # A test run in the background may have inherited an ignored SIGINT.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    deadline = time.monotonic() + 60
    while not any(tmp_path.rglob("*.jpg")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(stop)
    assert process.wait(timeout=60) != 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--height", "60", "at least 64"),
        ("--width", "100", "multiple of 8"),
        ("--num-train", "0", "at least 1"),
        ("--num-val", "-3", "at least 1"),
        ("--seed", "-1", "negative"),
    ],
)
def test_bad_arguments_are_explained(tmp_path: Path, option: str, value: str, message: str) -> None:
    result = run(tmp_path / "mini", option, value)
    assert result.returncode == 2
    assert option in result.stderr and message in result.stderr
    assert not (tmp_path / "mini").exists()


@pytest.mark.parametrize(("split", "index"), FRAMES)
def test_segments_are_the_instances_and_classes(mini: Path, split: str, index: int) -> None:
    root, city = mini / "cityscapes", {"train": "minitown", "val": "minival"}[split]
    content = json.loads((root / f"gtFine/panoptic_{split}.json").read_text())
    image, note = content["images"][index], content["annotations"][index]
    assert image["id"] == note["image_id"] == index
    assert (root / "leftImg8bit" / split / image["file_name"]).is_file()
    assert note["file_name"] == f"{city}/{city}_000000_{index:06d}_gtFine_panoptic.png"
    colors = cv2.imread(str(root / "gtFine" / split / note["file_name"]))[..., ::-1].astype(int)
    ids = colors @ (1, 256, 65536)
    instances = label_map(mini, split, index, "instanceIds")
    things = {category["name"] for category in content["categories"] if category["isthing"]}
    assert {"person", "car"} < things and len(content["categories"]) == 19
    segments = {segment["id"]: segment for segment in note["segments_info"]}
    assert set(np.unique(ids).tolist()) - {0} == set(segments)
    for value, area in zip(*np.unique(instances, return_counts=True), strict=True):
        label = id2label[int(value) // 1000 or int(value)]
        assert (int(value) in segments) == (area >= 8 and 0 <= label.trainId < 19)
        assert (ids[instances == value] == (value if int(value) in segments else 0)).all()
        if int(value) in segments:
            segment = segments[int(value)]
            assert (segment["category_id"], segment["area"]) == (label.id, area)
            assert (value >= 1000) == (label.name in things)


def test_things_are_instances_in_cocos_format(mini: Path) -> None:
    coco_tools = pytest.importorskip("pycocotools.coco")
    for split in COUNTS:
        coco = coco_tools.COCO(str(mini / f"cityscapes/gtFine/instances_{split}.json"))
        seen = 0
        for note in coco.loadAnns(coco.getAnnIds()):
            instances = label_map(mini, split, note["image_id"], "instanceIds")
            mask = coco.annToMask(note).astype(bool)
            (value,) = np.unique(instances[mask])
            assert value // 1000 == note["category_id"] and (mask == (instances == value)).all()
            rows, columns = np.nonzero(mask)
            x, y = columns.min(), rows.min()
            box = [x, y, columns.max() + 1 - x, rows.max() + 1 - y]
            assert note["area"] == mask.sum() and note["bbox"] == box
            seen += 1
        assert seen > 3
