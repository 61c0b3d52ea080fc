"""`tools/demo.py`: everything that a user may point it at, and what it leaves behind."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import demo
import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from PIL import Image
from pose_files import known_categories
from random_weights import random_weights

from metaprompt_d2.inference import Video
from metaprompt_d2.modeling import PersonDetector

SEM_SEG, DEPTH, POSE = (
    f"mini/{name}.yaml" for name in ("cityscapes_seg", "kitti_depth", "coco_pose")
)


def options_of(config: str) -> list[str]:
    """Options that load an untrained model on the CPU."""
    return ["--opts", "MODEL.DEVICE", "cpu", *random_weights(config)]


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of images of many kinds, 64x128."""
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    pixels = np.random.randint(0, 256, (64, 128, 3), np.uint8)
    image = Image.fromarray(pixels)
    image.save(folder / "plain.jpg")
    image.convert("L").save(folder / "grey.png")
    image.convert("RGBA").save(folder / "deep/alpha.png")
    image.convert("CMYK").save(folder / "print.jpg")
    cv2.imwrite(str(folder / "sixteen.png"), pixels.astype(np.uint16) * 257)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    image.transpose(Image.Transpose.ROTATE_90).save(folder / "turned.jpg", exif=exif)
    return folder


def write_clip(file: Path, num_frames: int = 3) -> None:
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*"mp4v"), 5, (96, 64))
    for value in range(num_frames):
        writer.write(np.full((64, 96, 3), 60 * value % 256, np.uint8))
    writer.release()


def written(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file())


def test_a_folder_is_predicted_and_its_corrupt_file_is_reported(
    run_tool: Callable[..., str], photos: Path, tmp_path: Path
) -> None:
    (photos / "broken.jpg").write_bytes((photos / "plain.jpg").read_bytes()[:300])
    write_clip(photos / "clip.mp4")
    (photos / "junk.mp4").write_text("junk")
    options = ["--config-file", SEM_SEG, "--input", photos, "--output", tmp_path / "out"]
    output = run_tool(
        "demo.py", *options, "--raw", "--batch-size", 3, *options_of(SEM_SEG), fails=True
    )
    assert output.splitlines()[-3] == "error: 2 of 9 inputs failed:"
    assert "broken.jpg cannot be read as an image" in output.splitlines()[-2]
    assert "junk.mp4 cannot be opened" in output.splitlines()[-1]
    assert "Traceback" not in output
    images = ["deep/alpha", "grey", "plain", "print", "sixteen", "turned"]
    expected = [f"{name}{end}.png" for name in images for end in ("", "_labels")]
    expected += ["clip.mp4", *(f"clip/{number:06d}_labels.png" for number in range(3))]
    assert written(tmp_path / "out") == sorted(expected)
    for name in images:
        labels = np.asarray(Image.open(tmp_path / f"out/{name}_labels.png"))
        assert labels.shape == (64, 128)
        assert Image.open(tmp_path / f"out/{name}.png").size == (128, 64)
        assert labels.max() < 19
    assert [frame.shape for frame in Video(tmp_path / "out/clip.mp4")] == [(64, 96, 3)] * 3


def test_depth_is_written_in_16_bits_with_the_scale_asked_for(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    arguments = ["--config-file", DEPTH, "--input", str(photos / "*.jpg"), "--output"]
    arguments += [
        str(tmp_path / "out"),
        "--raw",
        "--no-overlay",
        "--depth-scale",
        "100",
        *options_of(DEPTH),
    ]
    demo.main(arguments)
    assert written(tmp_path / "out") == ["plain_depth.png", "print_depth.png", "turned_depth.png"]
    said = f"predictions are in {tmp_path / 'out'} (images: 3, video frames: 0)"
    assert said in capsys.readouterr().out
    image = Image.open(tmp_path / "out/plain_depth.png")
    assert image.text == {"depth_scale": "100"}
    assert 0 < np.asarray(image).max() <= 8000  # 80 m


def test_people_are_posed_where_the_boxes_are(photos: Path, tmp_path: Path) -> None:
    boxes = {"plain.jpg": [[10, 5, 40, 60], [60, 5, 90, 60]], str(photos / "grey.png"): []}
    (tmp_path / "boxes.json").write_text(json.dumps(boxes))
    inputs = [str(photos / name) for name in ("plain.jpg", "grey.png", "turned.jpg")]
    arguments = ["--config-file", POSE, "--input", *inputs, "--output", str(tmp_path / "out")]
    demo.main([*arguments, "--raw", "--boxes", str(tmp_path / "boxes.json"), *options_of(POSE)])
    assert written(tmp_path / "out") == ["grey.png", "keypoints.json", "plain.png", "turned.png"]
    content = json.loads((tmp_path / "out/keypoints.json").read_text())
    names = {image["id"]: Path(image["file_name"]).name for image in content["images"]}
    found: dict[str, list] = {name: [] for name in names.values()}
    for person in content["annotations"]:
        found[names[person["image_id"]]].append(person["bbox"])
    assert found["plain.jpg"] == [[10, 5, 30, 55], [60, 5, 30, 55]]
    assert found["grey.png"] == []
    assert found["turned.jpg"] == [[0, 0, 128, 64]]  # the whole image


@pytest.mark.parametrize("by", ["boxes", "detector"])
def test_several_categories_are_posed(
    by: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of one key for a detector of the model zoo, or of a fifth number of each box."""
    found = {"dog": [10, 5, 40, 60], "horse": [60, 5, 90, 60]}
    arguments = ["--input", str(photos / "plain.jpg"), "--output", str(tmp_path / "out"), "--raw"]
    with known_categories("horse", "dog") as datasets:
        opts = [*options_of(POSE), *(str(part) for pair in datasets.items() for part in pair)]
        if by == "boxes":
            boxes = [[*found["dog"], 1], [*found["horse"], 0]]
            (tmp_path / "boxes.json").write_text(json.dumps({"plain.jpg": boxes}))
            arguments += ["--boxes", str(tmp_path / "boxes.json")]
        else:
            file = "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml"
            opts += ["MODEL.PERSON_DETECTOR.CONFIG_FILE", file]
            instances = Instances((64, 128), pred_boxes=Boxes([*found.values(), [0, 0, 9, 9]]))
            instances.pred_classes = torch.tensor([16, 17, 0])  # COCO's dog, horse and person
            instances.scores = torch.ones(3)
            model = [{"instances": instances}]
            monkeypatch.setattr(PersonDetector, "_load", lambda _: lambda _: model)
        demo.main(["--config-file", POSE, *arguments, *opts])
    content = json.loads((tmp_path / "out/keypoints.json").read_text())
    names = {category["id"]: category["name"] for category in content["categories"]}
    posed = {names[item["category_id"]]: item["bbox"] for item in content["annotations"]}
    assert posed == {"dog": [10, 5, 30, 55], "horse": [60, 5, 30, 55]}
    drawn = cv2.imread(str(tmp_path / "out/plain.png"))
    assert (drawn != cv2.imread(str(photos / "plain.jpg"))).any()


def test_a_video_that_ends_early_is_written_and_reported(tmp_path: Path) -> None:
    clip = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(clip), cv2.VideoWriter_fourcc(*"mp4v"), 5, (96, 64))
    for _ in range(6):
        writer.write(np.random.randint(0, 256, (64, 96, 3), np.uint8))
    writer.release()
    content = bytearray(clip.read_bytes())
    start, end = content.find(b"mdat") + 4, content.find(b"moov") - 4
    start = (start + end) // 2
    content[start:end] = bytes(end - start)
    clip.write_bytes(content)
    arguments = ["--config-file", DEPTH, "--input", str(clip), "--output", str(tmp_path / "out")]
    with pytest.raises(SystemExit, match=r"1 of 1 inputs failed:\n.*ends early: \d of 6 frames"):
        demo.main([*arguments, *options_of(DEPTH)])
    assert 0 < len(list(Video(tmp_path / "out/clip.mp4"))) < 6


class _Window:
    """Stands in for OpenCV's windows, which the headless build lacks."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, keys: str = ""):
        self.shown: list[np.ndarray] = []
        self.keys = list(keys)
        monkeypatch.setenv("DISPLAY", ":0")
        monkeypatch.setattr(cv2, "namedWindow", lambda *_: None)
        monkeypatch.setattr(cv2, "imshow", lambda _, picture: self.shown.append(picture))
        monkeypatch.setattr(cv2, "waitKey", lambda _: ord(self.keys.pop(0)) if self.keys else -1)


def test_a_camera_is_shown_until_q(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_clip(tmp_path / "camera.mp4", num_frames=9)
    capture = cv2.VideoCapture
    files = {0: str(tmp_path / "camera.mp4")}
    monkeypatch.setattr(cv2, "VideoCapture", lambda source: capture(files.get(source, source)))
    window = _Window(monkeypatch, keys="  q")
    output = tmp_path / "out"
    demo.main(
        ["--config-file", DEPTH, "--webcam", "--show", "--output", str(output), *options_of(DEPTH)]
    )
    assert [picture.shape for picture in window.shown] == [(64, 96, 3)] * 3
    assert written(output) == ["webcam.mp4"]
    frames = np.stack(list(Video(output / "webcam.mp4"))).astype(float)
    assert np.abs(frames - np.stack(window.shown)).mean() < 12  # same colors, compressed


@pytest.mark.parametrize("is_camera", [True, False])
def test_an_interrupted_camera_keeps_its_video_and_a_file_does_not(
    is_camera: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_clip(tmp_path / "clip.mp4", num_frames=9)
    capture, clip = cv2.VideoCapture, str(tmp_path / "clip.mp4")
    monkeypatch.setattr(cv2, "VideoCapture", lambda source: capture(source or clip))
    drawn: list[np.ndarray] = []

    def draw(image: np.ndarray, *_: object) -> np.ndarray:
        if len(drawn) == 3:
            raise KeyboardInterrupt
        drawn.append(image)
        return image

    monkeypatch.setattr(demo, "draw_overlay", draw)
    source = ["--webcam"] if is_camera else ["--input", clip]
    arguments = [
        "--config-file",
        DEPTH,
        *source,
        "--output",
        str(tmp_path / "out"),
        *options_of(DEPTH),
    ]
    if is_camera:
        demo.main(arguments)
        assert len(list(Video(tmp_path / "out/webcam.mp4"))) == 3
    else:
        with pytest.raises(SystemExit, match="^stopped$"):
            demo.main(arguments)
        assert written(tmp_path / "out") == []


def test_a_key_stops_images_too(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    window = _Window(monkeypatch, keys=" q")
    demo.main(["--config-file", DEPTH, "--input", str(photos), "--show", *options_of(DEPTH)])
    assert len(window.shown) == 2


def test_show_without_windows_is_an_error(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--config-file", DEPTH, "--input", str(photos), "--show", *options_of(DEPTH)]
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    with pytest.raises(SystemExit, match="^error: --show needs a display"):
        demo.main(arguments)
    monkeypatch.setenv("DISPLAY", ":0")
    with pytest.raises(SystemExit, match="^error: --show needs an OpenCV with windows"):
        demo.main(arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either --input or --webcam"),
        (["--input", "a.jpg", "--webcam"], "give either --input or --webcam"),
        (["--input", "a.jpg"], "give --output, --show or both"),
        (["--input", "a.jpg", "--show", "--raw"], "--raw and --no-overlay need --output"),
        (["--input", "a.jpg", "--output", "o", "--no-overlay"], "leaves nothing to write"),
        (["--input", "a.jpg", "--output", "o", "--batch-size", "0"], "must be positive"),
    ],
)
def test_a_contradictory_command_line_is_an_error(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit):
        demo.main(["--config-file", DEPTH, *arguments])
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"--config-file": "none.yaml"}, "config none.yaml isn't a file"),
        ({"--input": "gone.jpg"}, "gone.jpg isn't a file or folder"),
        ({"--opts": "MODEL.TYPO"}, "MODEL.TYPO"),
        ({"--boxes": '{"x.jpg": []}'}, "has boxes for x.jpg, which isn't an input"),
        (
            {"--boxes": '{"plain.jpg": [[1, 2]]}'},
            "boxes of plain.jpg have shape (1, 2), expected x0",
        ),
        ({"--boxes": '{"plain.jpg": [["a", 1, 2, 3]]}'}, "boxes of plain.jpg"),
        ({"--boxes": '{"plain.jpg": [[50, 10, 30, 40]]}'}, "not x, y, width and height"),
        (
            {"--boxes": '{"plain.jpg": [[1, 2, 3, NaN]]}'},
            "boxes of plain.jpg: [1.0, 2.0, 3.0, nan]",
        ),
        ({"--boxes": '{"plain.jpg": [[1, 2, 1, 3]]}'}, "with x0 < x1 and y0 < y1"),
        ({"--boxes": '{"plain.jpg": [[1, 2, 3, 4, -1]]}'}, "expected the index of a category"),
        ({"--boxes": "[]"}, "holds no mapping"),
    ],
)
def test_a_mistake_ends_in_one_line(
    photos: Path, tmp_path: Path, changes: dict[str, str], message: str
) -> None:
    options = {"--config-file": POSE, "--input": str(photos), "--output": str(tmp_path / "out")}
    options |= changes
    if "--boxes" in changes:
        (tmp_path / "boxes.json").write_text(changes["--boxes"])
        options["--boxes"] = str(tmp_path / "boxes.json")
    key = options.pop("--opts", None)
    arguments = [part for pair in options.items() for part in pair]
    opts = [*options_of(POSE), *([key, "1"] if key else [])]
    with pytest.raises(SystemExit, match="^error: ") as stopped:
        demo.main([*arguments, *opts])
    assert message in str(stopped.value.code)
    shutil.rmtree(tmp_path / "out", ignore_errors=True)


@pytest.mark.parametrize(
    ("names", "output", "message"),
    [
        (["a.png"], "photos", "photos/a.png is an input: choose another folder"),
        (["a.jpg", "clip.mp4"], "photos", "photos/clip.mp4 is an input"),
        (["a.png", "a_labels.png"], "out", r"a\.png and \S*a_labels\.png would both be written to"),
        (["a.png"], "file", "--output \\S*file isn't a folder"),
    ],
)
def test_nothing_is_overwritten(
    tmp_path: Path, names: list[str], output: str, message: str
) -> None:
    (tmp_path / "photos").mkdir()
    for name in [f"photos/{name}" for name in names] + ["file"]:
        (tmp_path / name).write_bytes(b"of the user")
    options = ["--input", str(tmp_path / "photos"), "--output", str(tmp_path / output), "--raw"]
    with pytest.raises(SystemExit, match=f"^error: .*{message}"):
        demo.main(["--config-file", SEM_SEG, *options, *options_of(SEM_SEG)])
    assert not (tmp_path / "out").exists()
    for file in (tmp_path / "photos").iterdir():
        assert file.read_bytes() == b"of the user"


def test_boxes_for_a_file_name_in_two_folders_are_refused(photos: Path, tmp_path: Path) -> None:
    shutil.copy(photos / "plain.jpg", photos / "deep")
    (tmp_path / "boxes.json").write_text('{"plain.jpg": [[1, 2, 30, 40]]}')
    options = ["--input", str(photos), "--output", str(tmp_path / "out")]
    with pytest.raises(SystemExit, match="boxes for plain.jpg, which is the name of several"):
        demo.main(
            [
                "--config-file",
                POSE,
                *options,
                "--boxes",
                str(tmp_path / "boxes.json"),
                *options_of(POSE),
            ]
        )


def test_boxes_for_another_task_fail_image_by_image(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "boxes.json").write_text('{"plain.jpg": [[1, 2, 30, 40]]}')
    arguments = ["--config-file", DEPTH, "--input", str(photos / "*.jpg"), "--output"]
    arguments += [
        str(tmp_path / "out"),
        "--boxes",
        str(tmp_path / "boxes.json"),
        *options_of(DEPTH),
    ]
    with pytest.raises(SystemExit, match="1 of 3 inputs failed:\n.*plain.jpg: boxes are for poses"):
        demo.main(arguments)
    assert written(tmp_path / "out") == ["print.png", "turned.png"]
