"""`Predictor`: any task, kinds of images, several at once, folders and videos."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model
from helpers import SMALLEST_DEPTH, smallest_cfg
from PIL import Image
from pose_files import SMALLEST_POSE, known_categories
from random_weights import untrained_predictor
from torch import Tensor, nn

from metaprompt_d2 import Predictor
from metaprompt_d2.data import build_mapper
from metaprompt_d2.modeling import with_test_time_augmentation
from metaprompt_d2.utils.errors import InputError

WHOLE = {"TEST.SLIDING_WINDOW.ENABLED": False, "INPUT.MIN_SIZE_TEST": 0}
TASKS = {"sem_seg": WHOLE, "depth": SMALLEST_DEPTH, "pose": SMALLEST_POSE}


def cfg_of(task: str, **overrides: Any) -> CfgNode:
    return smallest_cfg(TASKS[task] | overrides)


def picture(height: int = 70, width: int = 90) -> np.ndarray:
    """Random, BGR."""
    return np.random.randint(0, 256, (height, width, 3), np.uint8)


def result(output: dict) -> Tensor:
    (value,) = output.values()
    return value if isinstance(value, Tensor) else value.pred_keypoints


@pytest.fixture(scope="module")
def predictors() -> dict[str, Predictor]:
    torch.manual_seed(0)
    return {task: untrained_predictor(cfg_of(task)) for task in TASKS}


class _Mean(nn.Module):
    """Returns the mean color of its input; images less than 30 pixels high are an error."""

    def __init__(self, error: type[Exception] = InputError) -> None:
        super().__init__()
        self.error = error
        self.batches: list[int] = []

    def forward(self, inputs: list[dict]) -> list[dict]:
        self.batches.append(len(inputs))
        if any(item["height"] < 30 for item in inputs):
            raise self.error("too small")
        return [{"mean": item["image"].float().mean(dim=(1, 2))} for item in inputs]


def mean_predictor(**overrides: Any) -> Predictor:
    return Predictor(cfg_of("sem_seg", **overrides), model=_Mean())


@pytest.mark.parametrize("task", TASKS)
def test_an_image_of_any_size_is_predicted_at_its_size(
    predictors: dict[str, Predictor], task: str
) -> None:
    shapes = {"sem_seg": (11, 70, 90), "depth": (70, 90), "pose": (1, 17, 3)}
    found = result(predictors[task](picture()))
    assert found.shape == shapes[task]
    assert not found.requires_grad


def test_a_model_of_detectron2_is_predicted_with_detectron2s_resizing() -> None:
    sizes = {"INPUT.MIN_SIZE_TEST": 64, "INPUT.MAX_SIZE_TEST": 70}
    predictor = untrained_predictor(
        cfg_of("sem_seg", **{"MODEL.META_ARCHITECTURE": "SemanticSegmentor"} | sizes)
    )
    inputs = predictor.inputs(picture(100, 90))
    assert inputs["image"].shape == (3, 70, 63)
    assert (inputs["height"], inputs["width"]) == (100, 90)
    assert predictor(picture(100, 90))["sem_seg"].shape == (11, 100, 90)


@pytest.mark.parametrize(
    "overrides",
    [
        {"INPUT.MIN_SIZE_TEST": 64, "INPUT.MAX_SIZE_TEST": 128},
        {"TEST.AUG.ENABLED": True, "TEST.AUG.MIN_SIZES": (48, 64), "TEST.AUG.MAX_SIZES": (96, 96)},
    ],
    ids=["resized", "test-time augmentation"],
)
def test_predictions_are_those_of_an_evaluation(tmp_path: Path, overrides: dict) -> None:
    cfg = cfg_of("sem_seg", **overrides)
    model = build_model(cfg).eval()
    file = str(tmp_path / "image.png")
    cv2.imwrite(file, picture())
    item = build_mapper(cfg, False)({"file_name": file, "height": 70, "width": 90})
    (expected,) = with_test_time_augmentation(cfg, model)([item])
    assert torch.equal(Predictor(cfg, model=model)(file)["sem_seg"], expected["sem_seg"])


@pytest.mark.parametrize("image_format", ["RGB", "BGR"])
def test_arrays_are_bgr_and_paths_and_pil_images_agree(tmp_path: Path, image_format: str) -> None:
    predictor = mean_predictor(**{"INPUT.FORMAT": image_format})
    blue = np.zeros((40, 50, 3), np.uint8)
    blue[..., 0] = 200
    cv2.imwrite(str(tmp_path / "blue.png"), blue)
    expected = [0.0, 0.0, 200.0] if image_format == "RGB" else [200.0, 0.0, 0.0]
    pil = Image.open(tmp_path / "blue.png")
    for image in (blue, tmp_path / "blue.png", str(tmp_path / "blue.png"), pil):
        assert predictor(image)["mean"].tolist() == expected


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)],
)
def test_other_arrays_are_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected .height, width, 3. and uint8: BGR"):
        mean_predictor()(image)


@pytest.mark.parametrize("image", [["a.jpg"], torch.zeros(3, 4, 4), None])
def test_other_objects_are_refused(image: object) -> None:
    with pytest.raises(TypeError, match=f"is a {type(image).__name__}, expected a path, a PIL"):
        mean_predictor()(image)


def test_a_batch_has_at_least_one_image() -> None:
    with pytest.raises(ValueError, match="batch_size is 0, expected at least 1"):
        next(mean_predictor().stream([("a", picture(), None)], batch_size=0))


def test_people_are_posed_in_given_boxes(predictors: dict[str, Predictor]) -> None:
    boxes = [[10, 5, 40, 65], [50, 5, 80, 65]]
    people = predictors["pose"](picture(), boxes=boxes)["instances"]
    assert people.pred_boxes.tensor.tolist() == boxes
    assert len(predictors["pose"](picture(), boxes=[])["instances"]) == 0
    with pytest.raises(ValueError, match=r"boxes have shape \(1, 3\)"):
        predictors["pose"](picture(), boxes=[[1, 2, 3]])
    with pytest.raises(InputError, match="boxes: expected sequence of length 4"):
        predictors["pose"](picture(), boxes=[[1, 2, 3, 4], [1]])
    with pytest.raises(ValueError, match="boxes are for poses"):
        predictors["depth"](picture(), boxes=boxes)


def test_boxes_may_say_their_category(predictors: dict[str, Predictor]) -> None:
    boxes = [[10, 5, 40, 65, 1], [50, 5, 80, 65, 0]]
    with pytest.raises(InputError, match="expected the index of a category, from 0 to 0"):
        predictors["pose"](picture(), boxes=boxes)
    with known_categories("cat", "dog") as datasets:
        predictor = Predictor(cfg_of("pose", **datasets), model=predictors["pose"].model)
    people = predictor(picture(), boxes=boxes)["instances"]
    assert people.pred_classes.tolist() == [1, 0]
    assert people.pred_boxes.tensor.tolist() == [box[:4] for box in boxes]


def test_boxes_outside_of_the_image_are_refused(predictors: dict[str, Predictor]) -> None:
    with pytest.raises(InputError, match="outside of the image of 64x96"):
        predictors["pose"](picture(64, 96), boxes=[[96, 0, 99, 9]])


def test_files_are_predicted_in_batches(tmp_path: Path) -> None:
    for value in range(5):
        cv2.imwrite(str(tmp_path / f"{value}.png"), np.full((40, 50, 3), 40 * value, np.uint8))
    predictor = mean_predictor()
    predictions = list(predictor.files(tmp_path, batch_size=2))
    assert [Path(item.name).stem for item in predictions] == list("01234")
    assert [item.output["mean"][0].item() for item in predictions] == [0, 40, 80, 120, 160]
    assert [item.image[0, 0, 0] for item in predictions] == [0, 40, 80, 120, 160]
    assert predictor.model.batches == [2, 2, 1]


def test_a_bad_file_is_reported_and_the_rest_of_its_batch_is_predicted(tmp_path: Path) -> None:
    for name, height in (("a", 40), ("c", 20), ("d", 40)):
        cv2.imwrite(str(tmp_path / f"{name}.png"), picture(height))
    (tmp_path / "b.png").write_text("junk")
    told: dict[str, str] = {}
    predictions = mean_predictor().files(
        tmp_path,
        batch_size=3,
        on_error=lambda file, error: told.update({Path(file).name: str(error)}),
    )
    assert [Path(item.name).name for item in predictions] == ["a.png", "d.png"]
    assert told.keys() == {"b.png", "c.png"}
    assert "cannot be read" in told["b.png"]
    assert told["c.png"] == "too small"
    with pytest.raises(ValueError, match=r"b\.png cannot be read"):
        list(mean_predictor().files(tmp_path))


@pytest.mark.parametrize("error", [ValueError, OSError])
def test_a_bug_of_the_model_is_not_reported_as_a_bad_image(error: type[Exception]) -> None:
    predictor = Predictor(cfg_of("sem_seg"), model=_Mean(error))
    reported: list[str] = []
    items = [("a", picture(40), None), ("b", picture(20), None)]
    with pytest.raises(error, match="too small"):
        list(predictor.stream(items, on_error=lambda name, _: reported.append(name)))
    assert not reported


def test_a_batch_that_exceeds_the_memory_is_predicted_image_by_image() -> None:
    class Small(_Mean):
        def forward(self, inputs: list[dict]) -> list[dict]:
            if len(inputs) > 1:
                raise torch.OutOfMemoryError("out of memory")
            return super().forward(inputs)

    predictor = Predictor(cfg_of("sem_seg"), model=Small())
    items = [("a", picture(), None), ("b", picture(), None)]
    predictions = predictor.stream(items, batch_size=2, on_error=lambda *_: None)
    assert [item.name for item in predictions] == ["a", "b"]


def test_a_damaged_pil_image_is_reported(tmp_path: Path) -> None:
    Image.fromarray(picture()).save(tmp_path / "whole.jpg")
    (tmp_path / "part.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:-500])
    with pytest.raises(InputError, match="the image cannot be read: image file is truncated"):
        mean_predictor()(Image.open(tmp_path / "part.jpg"))


def test_frames_of_a_video_are_predicted(tmp_path: Path) -> None:
    file = tmp_path / "clip.mp4"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter_fourcc(*"mp4v"), 5, (64, 48))
    for value in (0, 100, 200):
        writer.write(np.full((48, 64, 3), value, np.uint8))
    writer.release()
    predictions = list(mean_predictor().video(file, batch_size=2))
    assert [item.name for item in predictions] == ["0", "1", "2"]
    means = [item.output["mean"].mean().item() for item in predictions]
    np.testing.assert_allclose(means, [0, 100, 200], atol=5)


def test_pictures_need_no_registered_dataset() -> None:
    known = mean_predictor(**{"DATASETS.TEST": ("mini_kitti_eigen_test",)}).metadata
    assert known.max_depth == 80
    predictor = mean_predictor(
        **{"DATASETS.TEST": ("somebody's",), "MODEL.DEPTH_HEAD.MAX_DEPTH": 7.0}
    )
    assert predictor.metadata.max_depth == 7
    assert predictor.metadata.stuff_classes == [str(number) for number in range(11)]
    assert "somebody's" not in MetadataCatalog.list()


def test_an_untrained_model_is_refused() -> None:
    with pytest.raises(InputError, match=r"MODEL\.WEIGHTS is empty, so the heads would be random"):
        Predictor(cfg_of("depth"))
