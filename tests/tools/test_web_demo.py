"""`tools/web_demo.py`: the page in a real browser, and its parts without one."""

import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from helpers import SMALLEST_DEPTH, smallest_cfg
from mini_training import free_port
from pose_files import SMALLEST_POSE

from metaprompt_d2 import Predictor
from metaprompt_d2.utils.errors import InputError

pytest.importorskip("gradio", reason="Gradio is not installed (the extra web)")
web_demo = pytest.importorskip("web_demo")
from web_page import look as look_module  # noqa: E402
from web_page.checkpoints import Checkpoint, find_checkpoints, load_predictor  # noqa: E402
from web_page.drawn_boxes import DrawnBoxes  # noqa: E402
from web_page.kept import KeptLooks  # noqa: E402
from web_page.look import VIEWS, Look  # noqa: E402
from web_page.messages import without_folders  # noqa: E402

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
OPTIONS = """
    --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync
""".split()
IN_BYTES = {"MODEL.PIXEL_MEAN": [127.5] * 3, "MODEL.PIXEL_STD": [127.5] * 3}
RUNS = {
    "streets": {
        "INPUT.MIN_SIZE_TEST": 0,
        "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 19,
        "DATASETS.TEST": ("mini_cityscapes_fine_sem_seg_val",),
    },
    "metres": SMALLEST_DEPTH,
    "people": SMALLEST_POSE,
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what trainings of all tasks leave behind, random weights."""
    root = tmp_path_factory.mktemp("runs")
    torch.manual_seed(0)
    for name, overrides in RUNS.items():
        cfg = smallest_cfg(overrides | IN_BYTES)
        (root / name).mkdir()
        (root / name / "config.yaml").write_text(cfg.dump())
        torch.save({"model": build_model(cfg).state_dict()}, root / name / "model_final.pth")
    return root


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("photos") / "photo.png"
    cv2.imwrite(str(file), np.random.randint(0, 256, (64, 128, 3), np.uint8))
    return str(file)


def test_trainings_are_found_with_their_task(runs: Path) -> None:
    found = find_checkpoints([str(runs)])
    assert [(item.label, item.task) for item in found] == [
        ("metres/model_final.pth", "Depth"),
        ("people/model_final.pth", "Pose"),
        ("streets/model_final.pth", "Segmentation"),
    ]
    assert isinstance(load_predictor(found[0]), Predictor)
    assert load_predictor(found[0]) is load_predictor(found[0])


def test_a_model_may_be_named(runs: Path) -> None:
    weights = str(runs / "metres/model_final.pth")
    found = find_checkpoints([], str(runs / "metres/config.yaml"), weights)
    config = str(runs / "metres/config.yaml")
    assert found == [Checkpoint("metres/model_final.pth", "Depth", config, weights)]
    (random,) = find_checkpoints([], config)
    assert random.label.endswith("/config.yaml, random")


def test_checkpoints_have_names_of_their_own(runs: Path, tmp_path: Path) -> None:
    for folder in ("a/run", "b/run"):
        shutil.copytree(runs / "metres", tmp_path / folder)
    labels = [item.label for item in find_checkpoints([str(tmp_path)])]
    assert labels == ["a/run/model_final.pth", "b/run/model_final.pth"]
    both = find_checkpoints([str(tmp_path / "a"), str(tmp_path / "b")])
    assert [item.label for item in both] == ["run/model_final.pth", "run/model_final.pth (2)"]
    (one,) = find_checkpoints([str(tmp_path / "a/run")])
    assert one.label == "run/model_final.pth"


def test_a_training_of_another_version_is_left_out(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "config.yaml").write_text("MODEL:\n  FORMER_KEY: 1\nVERSION: 2\n")
    (tmp_path / "model_final.pth").touch()
    assert len(find_checkpoints([str(tmp_path), str(runs)])) == 3
    assert "FORMER_KEY" in capsys.readouterr().out
    with pytest.raises(KeyError, match="FORMER_KEY"):
        find_checkpoints([str(runs)], str(tmp_path / "config.yaml"))


def test_models_without_responses_are_left_out(tmp_path: Path) -> None:
    cfg = smallest_cfg({"MODEL.META_PROMPT.REARRANGE": "none"})
    (tmp_path / "config.yaml").write_text(cfg.dump())
    (tmp_path / "model_final.pth").touch()
    with pytest.raises(ValueError, match=r"no config\.yaml with a checkpoint next to it in"):
        find_checkpoints([str(tmp_path)])
    with pytest.raises(SystemExit, match="^error: no config"):
        web_demo.main(["--runs", str(tmp_path)])


def test_weights_that_cannot_be_loaded_are_reported_on_the_page(
    runs: Path, photo: str, capsys: pytest.CaptureFixture
) -> None:
    config = str(runs / "metres/config.yaml")
    with web_demo.gr.Blocks():
        page = web_demo._Page(find_checkpoints([], config, "gone.pth"))
    with pytest.raises(web_demo.gr.Error, match=r"gone\.pth") as raised:
        page._look("gone.pth", photo, DrawnBoxes())
    assert str(runs) not in str(raised.value)
    with pytest.raises(SystemExit):
        web_demo.main(["--weights", "gone.pth"])
    assert "--weights needs the --config-file" in capsys.readouterr().err


@pytest.mark.parametrize("number", range(3))
def test_every_view_of_every_task_is_drawn(runs: Path, photo: str, number: int) -> None:
    look = Look(load_predictor(find_checkpoints([str(runs)])[number]), photo)
    drawn = [
        look.picture(view, step, look.best_prompt(), feature)
        for view in VIEWS
        for step in range(1, look.num_steps + 1)
        for feature in look.features
    ]
    assert max(picture.shape[1] for picture in drawn) == 768
    captions = {look.caption(view, 1, 0, look.features[0]) for view in VIEWS}
    assert len(captions) == len(VIEWS)
    thumbnails = look.thumbnails(1, look.features[0])
    assert len(thumbnails) == look.num_prompts
    assert thumbnails[0][0].shape[1] == 160
    assert re.fullmatch(r"0: .+ [+-]\d\.\d\d", thumbnails[0][1])
    assert look.num_bytes == sum(
        array.nbytes
        for array in [look.image, *look.overlays, *(m for maps in look.maps.values() for m in maps)]
    )


@pytest.mark.parametrize("shape", [(3000, 4000), (6000, 2000), (200, 100), (1, 4_000_000)])
def test_an_image_of_any_size_takes_bounded_memory(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, int]
) -> None:
    seen = []

    def stop(predictor: None, image: np.ndarray, boxes: None) -> None:
        seen.append(image)
        raise InputError("seen")

    pixels = np.zeros((*shape, 3), np.uint8)
    monkeypatch.setattr(look_module, "read_image", lambda *_: pixels)
    monkeypatch.setattr(look_module, "look_inside", stop)
    with pytest.raises(InputError, match="seen"):
        Look(None, "photo.jpg")
    height, width = seen[0].shape[:2]
    assert height * width <= max(2**20, width)
    assert (height, width) == shape or height * width > 0.99 * 2**20 or height == 1
    if min(shape) > 100:
        assert height / width == pytest.approx(shape[0] / shape[1], rel=0.01)


class _Sized:
    def __init__(self, num_bytes: int):
        self.num_bytes = num_bytes


def test_all_sessions_together_keep_a_bounded_number_of_bytes() -> None:
    kept = KeptLooks(max_bytes=100)
    keys = [kept.add(_Sized(40)) for _ in range(2)]
    kept.get(keys[0])  # now the other one is the longest unused
    keys.append(kept.add(_Sized(40)))
    assert [kept.get(key) is not None for key in keys] == [True, False, True]
    assert kept.num_bytes == 80
    large = kept.add(_Sized(500))
    assert kept.get(large).num_bytes == kept.num_bytes == 500
    kept.remove(large)
    kept.remove("unknown")
    assert (kept.get(large), kept.num_bytes) == (None, 0)


def test_a_look_that_was_dropped_is_said(runs: Path, photo: str) -> None:
    with web_demo.gr.Blocks():
        page = web_demo._Page(find_checkpoints([str(runs)]))
    key = page._look("metres/model_final.pth", photo, DrawnBoxes())[0]
    (feature, *_) = page.kept.get(key).features
    picture, caption = page._draw(key, "Image", 1, 0, feature)
    assert picture.shape[1] == 768
    assert caption
    assert page._clear(key) == ["", None, "", None, "", None]
    assert page._draw("", "Image", 1, 0, feature) == (None, "")
    with pytest.raises(web_demo.gr.Error, match="press Look inside again"):
        page._draw(key, "Image", 1, 0, feature)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/me/runs/a/model.pth does not exist", "model.pth does not exist"),
        ("'/tmp/x y/photo.png' is bad", "'photo.png' is bad"),
        ("see ~/data/a.json, ../b/c.txt", "see a.json, c.txt"),
        ("C:\\Users\\me\\a.png is 3x4 (height/width)", "a.png is 3x4 (height/width)"),
        ("runs/one/m.pth lacks 3 tensors", "m.pth lacks 3 tensors"),
    ],
)
def test_messages_name_files_without_their_folders(text: str, expected: str) -> None:
    assert without_folders(text, ["/tmp/x y/photo.png", "runs/one/m.pth"]) == expected


@pytest.fixture(scope="module")
def address(start_tool: Callable[..., tuple[subprocess.Popen, Path]], runs: Path) -> Iterator[str]:
    """Where the page is served."""
    port = free_port()
    server, log = start_tool(
        "web_demo.py", "--runs", runs, "--server-name", "localhost", "--server-port", port
    )
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"http://localhost:{port}", timeout=5).close()
                break
            except OSError:
                assert server.poll() is None, log.read_text()
                time.sleep(0.5)
        yield f"http://localhost:{port}"
    finally:
        server.terminate()
        server.wait()


@pytest.fixture
def page(address: str, tmp_path: Path) -> Iterator[Any]:
    """The page in a browser; it must neither fail nor connect to any other host."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium on this machine")
    playwright = pytest.importorskip("playwright.sync_api")
    requests: list[str] = []
    errors: list[str] = []
    with playwright.sync_playwright() as browsers:
        browser = browsers.chromium.launch_persistent_context(
            str(tmp_path / "profile"), executable_path=CHROMIUM, headless=True, args=OPTIONS
        )
        page = browser.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(address)
        yield page
        browser.close()
    assert errors == []
    hosts = {urlsplit(url).hostname for url in requests if url.startswith(("http", "ws"))}
    assert hosts == {"localhost"}


def expect(part: Any) -> Any:
    """Playwright's assertions, which wait."""
    from playwright.sync_api import expect

    expect.set_options(timeout=60_000)  # milliseconds; five seconds are too few on a busy machine

    return expect(part)


def test_the_page_in_a_browser(page: Any, photo: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(Path(photo).read_bytes()[:200])

    def caption(side: str, text: str) -> None:
        expect(page.locator(f"#{side}-caption")).to_contain_text(text)

    def picture(side: str) -> str | None:
        return page.locator(f"#{side} img").get_attribute("src")

    # Without an image there is nothing to look at.
    page.click("#go")
    expect(page.get_by_text("Drop an image first.")).to_be_visible()

    # The other task has another checkpoint; dropping an image starts the look.
    page.locator("#task label", has_text="Segmentation").click()
    expect(page.locator("#checkpoint input")).to_have_value("streets/model_final.pth")
    page.set_input_files("input[type=file]", photo)
    expect(page.locator("#prompts .thumbnail-lg")).to_have_count(6)
    caption("left", "What the head makes of step 2")
    caption("right", "at step 2: follows")

    # The sides differ, and each has steps of its own.
    before = picture("left"), picture("right")
    page.locator("#left-step input[type=number]").fill("1")
    page.keyboard.press("Enter")
    caption("left", "What the head makes of step 1")
    assert picture("left") != before[0]
    assert picture("right") == before[1]
    page.locator("#left-view label", has_text="Change").click()
    caption("left", "No step before.")

    # A click on a prompt's map shows it on the right.
    page.locator("#prompts .thumbnail-lg").nth(5).click()
    caption("right", "Prompt 5 at step 2")
    for _ in range(20):  # on a busy machine, the click's number may arrive after what is typed
        page.locator("#right-prompt input[type=number]").fill("3")
        page.keyboard.press("Enter")
        with suppress(AssertionError):
            shown = expect(page.locator("#right-caption"))
            shown.to_contain_text("Prompt 3 at step 2", timeout=3000)
            break
    caption("right", "Prompt 3 at step 2")

    # All of a caption and of the checkpoint's name can be read.
    cut = "part => part.scrollWidth > part.clientWidth"
    for part in page.locator("#prompts .caption-label").all():
        assert not part.evaluate(cut)
    assert not page.locator("#checkpoint input").evaluate(cut)

    # A bad image leaves no map of the one before, and the message no path of the server.
    page.locator("button[aria-label='Clear'], button[aria-label='Remove Image']").first.click()
    expect(page.locator("#prompts .thumbnail-lg")).to_have_count(0)
    page.set_input_files("input[type=file]", photo)
    expect(page.locator("#prompts .thumbnail-lg")).to_have_count(6)
    page.locator("button[aria-label='Clear'], button[aria-label='Remove Image']").first.click()
    page.set_input_files("input[type=file]", str(broken))
    expect(page.locator("#prompts .thumbnail-lg")).to_have_count(0)
    expect(page.locator("#left img")).to_have_count(0)
    assert "/tmp/" not in page.locator("body").inner_text()


def test_boxes_are_drawn_in_a_browser(page: Any, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "gray.png"), np.full((64, 128, 3), 100, np.uint8))
    page.locator("#task label", has_text="Pose").click()
    page.set_input_files("input[type=file]", str(tmp_path / "gray.png"))
    picture = page.locator("#boxes img")
    expect(picture).to_be_visible()

    def click(x: float, y: float) -> None:
        """Click at a share of the picture's width and height, and wait until that is drawn."""
        before = picture.get_attribute("src")
        size = picture.bounding_box()
        picture.click(position={"x": x * size["width"], "y": y * size["height"]})
        expect(picture).not_to_have_attribute("src", before)

    def drawn() -> np.ndarray:
        """Where the picture is as green as the boxes, (h, w)."""
        content = page.request.get(picture.get_attribute("src")).body()
        shown = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR).astype(int)
        return (shown[..., 1] > 190) & (shown[..., [0, 2]] < 70).all(axis=2)

    def limits(where: np.ndarray) -> list[float]:
        """The left, top, right and bottom ends as shares of width and height."""
        rows, columns = where.any(axis=1).nonzero()[0], where.any(axis=0).nonzero()[0]
        (height, width), ends = where.shape, (0, -1)
        return [value for end in ends for value in (columns[end] / width, rows[end] / height)]

    expect(page.locator("#left-caption")).to_contain_text("What the head makes of step 1")
    click(0.75, 0.8)
    click(0.25, 0.1)
    assert limits(drawn()) == pytest.approx([0.25, 0.1, 0.75, 0.8], abs=0.01)
    click(0.1, 0.2)
    click(0.9, 0.9)
    assert limits(drawn()) == pytest.approx([0.1, 0.1, 0.9, 0.9], abs=0.01)
    page.click("#go")
    expect(page.locator("#right-caption")).to_contain_text("This is the first of 2 boxes.")

    before = picture.get_attribute("src")
    page.click("#clear-boxes")
    expect(picture).not_to_have_attribute("src", before)
    assert not drawn().any()
    page.click("#go")
    expect(page.locator("#right-caption")).not_to_contain_text("boxes")
    expect(page.locator("#right-caption")).to_contain_text("follows")
    page.locator("#task label", has_text="Depth").click()
    expect(page.locator("#boxes")).not_to_be_visible()


def test_nothing_is_reported_to_gradio() -> None:
    from gradio import analytics

    assert not analytics.analytics_enabled()
