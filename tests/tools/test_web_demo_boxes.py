"""Boxes drawn on the page: from clicks on a picture to pixels of the file, and to the model."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import smallest_cfg
from PIL import Image
from pose_files import SMALLEST_POSE, known_categories
from random_weights import untrained_predictor

from metaprompt_d2.inference.prompt_responses import WHOLE_IMAGES
from metaprompt_d2.utils.errors import InputError

pytest.importorskip("gradio", reason="Gradio is not installed (the extra web)")
web_demo = pytest.importorskip("web_demo")
from web_page import look as look_module  # noqa: E402
from web_page.checkpoints import Checkpoint, find_checkpoints  # noqa: E402
from web_page.drawn_boxes import DrawnBoxes  # noqa: E402
from web_page.look import Look  # noqa: E402

CATS_AND_DOGS = ("cat", "dog")


def write_image(file: Path, height: int, width: int, **exif: object) -> str:
    Image.new("RGB", (width, height), (100, 100, 100)).save(file, quality=95, **exif)
    return str(file)


def click(drawn: DrawnBoxes, x: float, y: float, category: int = 0) -> DrawnBoxes:
    """Click at a share of the picture's width and height."""
    height, width = drawn.picture().shape[:2]
    return drawn.clicked(round(x * width), round(y * height), category)


@pytest.mark.parametrize(("height", "width"), [(64, 128), (900, 700), (3000, 4000)])
def test_two_clicks_are_a_box_in_pixels_of_the_file(
    tmp_path: Path, height: int, width: int
) -> None:
    """The picture is larger than a small file, and smaller than a large one."""
    drawn = DrawnBoxes(write_image(tmp_path / "a.jpg", height, width), CATS_AND_DOGS)
    assert max(drawn.picture().shape) >= 768
    assert drawn.picture().size <= 3 * 2**20
    corner = click(drawn, 0.75, 0.2)
    assert (corner.boxes, corner._replace(corner=None)) == ((), drawn)
    once = click(corner, 0.25, 0.9, category=1)
    (box,) = once.boxes
    expected = [0.25 * width, 0.2 * height, 0.75 * width, 0.9 * height]
    assert box[:4] == pytest.approx(expected, abs=max(height, width) / 768)
    assert (box[4], once.corner) == (1, None)
    twice = click(click(once, 0.1, 0.1), 0.3, 0.3)
    assert twice.boxes[:1] == once.boxes
    assert len(twice.boxes) == 2
    assert corner.boxes == ()  # no drawing changes another one


def test_a_turned_photo_is_drawn_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    drawn = DrawnBoxes(write_image(tmp_path / "a.jpg", 400, 800, exif=exif), ("person",))
    (box,) = click(click(drawn, 0.5, 0.5), 1, 1).boxes
    assert box[:4] == pytest.approx([200, 400, 400, 800])


def test_a_box_without_area_is_refused_and_its_first_corner_stays(tmp_path: Path) -> None:
    drawn = click(DrawnBoxes(write_image(tmp_path / "a.png", 64, 128), ("person",)), 0.5, 0.5)
    for x, y in ((0.5, 0.5), (0.5, 0.9), (0.9, 0.5)):
        with pytest.raises(InputError, match="no area"):
            click(drawn, x, y)
    assert len(click(drawn, 0.6, 0.6).boxes) == 1


def test_boxes_corners_and_names_are_seen(tmp_path: Path) -> None:
    empty = DrawnBoxes(write_image(tmp_path / "a.png", 400, 800), ("person",))
    assert (empty.picture() == 100).all()

    def changed(drawn: DrawnBoxes) -> np.ndarray:
        return (drawn.picture() != 100).any(axis=2)

    corner = click(empty, 0.5, 0.5)
    assert changed(corner)[200, 400]
    drawn = click(corner, 0.75, 0.9)
    assert changed(drawn)[200, 400:600].all()
    assert changed(drawn)[200:360, 600].all()
    assert not changed(drawn)[220:340, 420:580].any()
    several = drawn._replace(categories=("person", "cat"))
    assert changed(several)[210:250, 410:580].any()  # the name


def test_boxes_reach_the_model_in_pixels_of_what_it_sees(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Large files are shrunk to a megapixel before."""
    seen = []

    def stop(predictor: None, image: np.ndarray, boxes: np.ndarray) -> None:
        seen.append((image.shape[:2], boxes.tolist()))
        raise InputError("seen")

    monkeypatch.setattr(look_module, "look_inside", stop)
    file = write_image(tmp_path / "a.jpg", 2000, 4000)
    with pytest.raises(InputError, match="seen"):
        Look(None, file, [(1000, 500, 3000, 2000, 1)])
    (((height, width), (box,)),) = seen
    assert (height, width) == (724, 1448)
    assert box == pytest.approx([width / 4, height / 4, width * 3 / 4, height, 1])


def test_what_is_in_the_boxes_is_posed(tmp_path: Path) -> None:
    options = dict(zip(WHOLE_IMAGES[::2], WHOLE_IMAGES[1::2], strict=True))
    torch.manual_seed(0)
    with known_categories(*CATS_AND_DOGS) as datasets:
        predictor = untrained_predictor(smallest_cfg(SMALLEST_POSE | datasets | options))
    file = write_image(tmp_path / "a.png", 64, 128)
    boxes = [(10, 5, 50, 60, 1), (60, 5, 100, 60, 0)]
    look = Look(predictor, file, boxes)
    overlay = look.picture("Prediction", 1, 0, "p2")  # six times as large
    changed = (overlay != 100).any(axis=2)
    for left, top, right, bottom, _ in boxes:
        edges = changed[top * 6 : bottom * 6, [left * 6, right * 6]]
        assert edges.all()
    assert not changed[:, 110 * 6 :].any()
    assert look.caption("Image", 1, 0, "p2").endswith("This is the first of 2 boxes.")
    assert "boxes" not in Look(predictor, file, boxes[:1]).caption("Image", 1, 0, "p2")
    assert "boxes" not in Look(predictor, file).caption("Image", 1, 0, "p2")


@pytest.fixture
def page() -> object:
    """A page of models that pose cats and dogs, birds, and nothing."""
    models = {"pets": CATS_AND_DOGS, "birds": ("bird",), "metres": ()}
    with web_demo.gr.Blocks():
        return web_demo._Page([Checkpoint(name, name, "", "", models[name]) for name in models])


def test_the_editor_is_shown_for_models_that_pose(page: object, tmp_path: Path) -> None:
    file = write_image(tmp_path / "a.png", 64, 128)
    (tmp_path / "broken.png").write_text("junk")

    def shown(label: str, file: str | None) -> tuple:
        drawn, picture, column, category = page._show_boxes(label, file, DrawnBoxes())
        assert drawn == DrawnBoxes(file, page.checkpoints[label].categories)
        return picture is not None, column.visible, category.visible

    assert shown("pets", file) == (True, True, True)
    assert shown("birds", file) == (True, True, False)
    assert shown("metres", file) == (False, False, False)
    assert shown("pets", None) == (False, False, True)
    assert shown("pets", str(tmp_path / "broken.png")) == (False, False, True)


def test_boxes_count_for_their_image_and_categories_only(
    page: object, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (write_image(tmp_path / f"{name}.png", 64, 128) for name in "ab")
    looked = []

    def look(predictor: None, file: str, boxes: tuple) -> None:
        looked.append(len(boxes))
        raise InputError("seen")

    monkeypatch.setattr(web_demo, "Look", look)
    monkeypatch.setattr(web_demo, "load_predictor", lambda _: None)
    drawn = page._show_boxes("pets", first, DrawnBoxes())[0]
    for place in ([10, 20], [300, 200], [10, 10]):
        data = SimpleNamespace(index=place)
        drawn, picture = page._click("pets", first, drawn, 1, data)
        assert (picture == drawn.picture()).all()
    assert (len(drawn.boxes), drawn.boxes[0][4]) == (1, 1)
    with pytest.raises(web_demo.gr.Error, match="no area"):
        page._click("pets", first, drawn, 1, data)
    for label, file in (("pets", first), ("pets", second), ("birds", first)):
        with pytest.raises(web_demo.gr.Error, match="seen"):
            page._look(label, file, drawn)
        assert page._show_boxes(label, file, drawn)[0].boxes == drawn.boxes[: looked[-1]]
    assert looked == [1, 0, 0]
    # A click on a picture that the page is about to replace isn't on the image that it has now.
    assert page._click("pets", second, drawn, 1, data) == web_demo.gr.skip()
    empty, picture = page._clear_boxes(drawn)
    assert empty == DrawnBoxes(first, CATS_AND_DOGS)
    assert (picture == empty.picture()).all()


def test_options_are_of_all_models_and_categories_are_known(tmp_path: Path) -> None:
    with known_categories(*CATS_AND_DOGS) as datasets:
        cfg = smallest_cfg(SMALLEST_POSE | datasets)
        (tmp_path / "config.yaml").write_text(cfg.dump())
        detector = [
            "MODEL.PERSON_DETECTOR.CONFIG_FILE",
            "COCO-Detection/retinanet_R_50_FPN_1x.yaml",
        ]
        (found,) = find_checkpoints([], str(tmp_path / "config.yaml"), options=detector)
    assert found.categories == CATS_AND_DOGS
    assert found.options == tuple(detector)
