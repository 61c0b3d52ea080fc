"""Predictions that are NaN or infinite are counted, named, said, and never score."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from helpers import (
    random_image,
    registered_cityscapes,
    smallest_cfg,
    smallest_depth_cfg,
    write_cityscapes,
)
from PIL import Image
from pose_files import person, registered_people, smallest_pose_cfg, write_people
from torch import Tensor, nn

from metaprompt_d2 import Predictor
from metaprompt_d2.data.readers import read_labels
from metaprompt_d2.evaluation import (
    MergedEvaluators,
    SemSegPredictionWriter,
    TopDownKeypointEvaluator,
    build_evaluators,
    describe_not_finite,
)
from metaprompt_d2.inference import PredictionFiles
from metaprompt_d2.modeling import with_test_time_augmentation

ROAD, CAR = 0, 13


def perfect_logits(item: dict) -> Tensor:
    labels = read_labels(item["sem_seg_file_name"]).astype(np.int64)
    one_hot = nn.functional.one_hot(torch.from_numpy(np.where(labels == 255, 0, labels)), 19)
    return one_hot.permute(2, 0, 1).float()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@pytest.mark.parametrize("channel", [0, 7, 18, slice(None)])
def test_pixels_without_a_class_are_wrong(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, bad: float, channel: int | slice
) -> None:
    """The right half of the first of two images has no class: half of its pixels are missed."""
    write_cityscapes(tmp_path / "data", num_images=2)
    with registered_cityscapes(tmp_path / "data") as name:
        cfg = smallest_cfg({"OUTPUT_DIR": str(tmp_path / "out")})
        evaluator = MergedEvaluators(build_evaluators(cfg, name))
        evaluator.reset()
        truths, missed = [], []
        for index, item in enumerate(DatasetCatalog.get(name)):
            scores = perfect_logits(item)
            if index == 0:
                scores[channel, :, 24:] = bad
                file_name = item["file_name"]
            truths.append(read_labels(item["sem_seg_file_name"]))
            missed.append(np.zeros(truths[-1].shape, bool))
            missed[-1][:, 24:] = index == 0
            evaluator.process([item], [{"sem_seg": scores}])
        metrics = evaluator.evaluate()["sem_seg"]
    truth, missed = np.stack(truths), np.stack(missed)
    shares = [1 - missed[truth == label].mean() for label in (ROAD, CAR)]
    assert metrics["pACC"] == pytest.approx(100 * (1 - missed[truth != 255].mean()))
    assert [metrics["ACC-road"], metrics["ACC-car"]] == pytest.approx([100 * s for s in shares])
    # No other class has ground truth: a miss lowers its own class's IoU alone.
    assert metrics["mIoU"] == pytest.approx(100 * np.mean(shares))
    assert metrics["IoU"] == pytest.approx(100 * np.mean(shares), rel=1e-4)  # the official scorer
    assert metrics["images_not_finite"] == 1
    assert f"{file_name} (576 of 1152 pixels without a class)" in caplog.text
    predictions = tmp_path / f"out/inference/{name}/sem_seg_predictions.json"
    json.loads(predictions.read_text(), parse_constant=pytest.fail)


def test_logits_that_are_all_nan_score_nothing(tmp_path: Path) -> None:
    write_cityscapes(tmp_path, num_images=1)
    with registered_cityscapes(tmp_path) as name:
        evaluator = build_evaluators(smallest_cfg({"OUTPUT_DIR": str(tmp_path)}), name)[-1]
        evaluator.reset()
        (item,) = DatasetCatalog.get(name)
        evaluator.process([item], [{"sem_seg": torch.full((19, 24, 48), torch.nan)}])
        metrics = evaluator.evaluate()["sem_seg"]
    names = ("mIoU", "fwIoU", "mACC", "pACC", "MaskBoundaryIoU-road", "MaskBoundaryIoU-car")
    assert [metrics[name] for name in names] == [0] * len(names)


def test_files_for_a_server_name_the_images(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_cityscapes(tmp_path / "data", num_images=1)
    with registered_cityscapes(tmp_path / "data") as name:
        writer = SemSegPredictionWriter(name, str(tmp_path / "a.zip"))
        writer.reset()
        (item,) = DatasetCatalog.get(name)
        writer.process([item], [{"sem_seg": torch.full((19, 24, 48), torch.nan)}])
        writer.evaluate()
    assert f"{item['file_name']} (1152 of 1152 pixels without a class)" in caplog.text


def test_keypoints_that_are_nan_are_named_and_written_as_zeros(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with registered_people(write_people(tmp_path, [person(1), person(2, 2)])) as name:
        evaluator = TopDownKeypointEvaluator(name, output_dir=str(tmp_path))
        evaluator.reset()
        for index, item in enumerate(DatasetCatalog.get(name)):
            keypoints = np.reshape(item["annotations"][0]["keypoints"], (1, 17, 3)).astype(float)
            keypoints[..., 2] = 1
            keypoints[:, : 17 * index] = np.nan  # all of the second person
            found = Instances((80, 100), pred_keypoints=torch.from_numpy(keypoints))
            found.scores, found.crop_areas = torch.ones(1), torch.full((1,), 2000.0)
            found.pred_classes = torch.tensor([0])
            output = {"instances": found}
            evaluator.process([item], [output])
        metrics = evaluator.evaluate()["keypoints"]
        assert output["instances"].pred_keypoints.isnan().all()  # evaluators change no output
    assert (metrics["people"], metrics["people_not_finite"]) == (2, 1)
    assert metrics["AR"] == pytest.approx(50)
    assert "person 2 of image 2 (17 keypoints)" in caplog.text
    text = (tmp_path / "keypoints_results.json").read_text()
    results = json.loads(text, parse_constant=pytest.fail)
    assert results[1]["keypoints"] == [0] * 51
    assert results[1]["score"] == 0


class _BreaksBelow(nn.Module):
    """A backbone whose features are NaN where the image is brighter than any real one."""

    def __init__(self, backbone: nn.Module):
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        breaks = (images > 9).flatten(1).any(dim=1).view(-1, 1, 1, 1)
        return {
            name: maps.masked_fill(breaks, torch.nan)
            for name, maps in self.backbone(images).items()
        }


AUG = {"TEST.AUG.MIN_SIZES": (64, 0), "TEST.AUG.MAX_SIZES": (128, 0)}
WINDOWS = {"TEST.SLIDING_WINDOW.SIZE": (64, 64), "TEST.SLIDING_WINDOW.STRIDE": (32, 32)}


@pytest.mark.parametrize("augmented", [False, True])
@pytest.mark.parametrize("task", ["sem_seg", "depth"])
@torch.no_grad()
def test_nan_in_one_window_arrives_in_its_pixels(task: str, augmented: bool) -> None:
    aug = AUG | {"TEST.AUG.ENABLED": augmented}
    windows = {"sem_seg": WINDOWS, "depth": {"TEST.SHIFTED_WINDOWS.COUNT": 3}}[task]
    cfg = {"sem_seg": smallest_cfg, "depth": smallest_depth_cfg}[task](windows | aug)
    model = build_model(cfg).eval()
    model.backbone.forward = _BreaksBelow(model.backbone.forward).forward
    image = random_image(64, 128)
    image[:, 5, 3] = 100  # in the first window only; in the last one of the mirror image
    (output,) = with_test_time_augmentation(cfg, model)([{"image": image}])
    broken = output[task].isnan().flatten(0, -3).any(dim=0) if task == "sem_seg" else None
    broken = output["depth"].isnan() if broken is None else broken
    assert broken[:, :64].all()
    if not augmented:  # resized images are as bright elsewhere
        assert not broken[:, 64:].any()
    assert describe_not_finite(output)


def test_keypoints_of_nan_heatmaps_are_nan_in_every_batch_and_flip() -> None:
    model = build_model(smallest_pose_cfg({"TEST.AUG.ENABLED": True})).eval()
    model.backbone.forward = _BreaksBelow(model.backbone.forward).forward
    image = random_image(80, 100).clamp(0, 1) * 255
    image[:, 40, 80] = 1e6
    boxes = Boxes(torch.tensor([[5.0, 5, 45, 75], [60.0, 5, 95, 75]]))
    with torch.no_grad():
        (output,) = model([{"image": image, "instances": Instances((80, 100), pred_boxes=boxes)}])
    keypoints = output["instances"].pred_keypoints
    assert keypoints[0].isfinite().all()
    assert keypoints[1].isnan().all()
    assert describe_not_finite(output) == "17 of 34 keypoints"


def outputs() -> list[tuple[str, dict]]:
    people = Instances((8, 9), pred_keypoints=torch.ones(2, 17, 3))
    people.pred_keypoints[1, 3, 2] = torch.nan
    people.pred_boxes, people.scores = Boxes(torch.ones(2, 4)), torch.ones(2)
    people.pred_classes = torch.zeros(2, dtype=torch.int64)
    scores, depth = torch.zeros(3, 8, 9), torch.ones(8, 9)
    scores[1, 2, 3], depth[0, :2] = torch.nan, torch.tensor([torch.nan, torch.inf])
    return [
        ("1 of 72 pixels without a class", {"sem_seg": scores}),
        ("1 NaN, 1 infinite", {"depth": depth}),
        ("1 of 34 keypoints", {"instances": people}),
    ]


@pytest.mark.parametrize(("text", "output"), outputs())
def test_a_predictor_says_so_and_files_have_no_nan(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, output: dict
) -> None:
    class Broken(nn.Module):
        def forward(self, inputs: list[dict]) -> list[dict]:
            return [output for _ in inputs]

    predictor = Predictor(smallest_cfg(), model=Broken())
    image = np.zeros((8, 9, 3), np.uint8)
    with caplog.at_level(logging.WARNING, logger="metaprompt_d2"):
        predictor(image)
        assert text in caplog.text
        caplog.clear()
        list(predictor.stream([("street.jpg", image, None)]))
        assert f"street.jpg: the prediction is NaN or infinite: {text}" in caplog.text
    files = PredictionFiles(tmp_path, MetadataCatalog.get("mini_coco_person_topdown_val"))
    files.add("a", output, file_name="street.jpg", size=(8, 9))
    files.close()
    for file in tmp_path.glob("*.json"):
        people = json.loads(file.read_text(), parse_constant=pytest.fail)["annotations"]
        assert people[1]["keypoints"][9:12] == [0, 0, 0]
        assert [item["num_keypoints"] for item in people] == [17, 16]
    for file in tmp_path.glob("*_labels.png"):
        labels = np.asarray(Image.open(file))
        assert (labels == 255).sum() == 1
        assert labels[2, 3] == 255


def test_finite_outputs_are_not_described() -> None:
    masked = torch.zeros(2, 3, 4)
    masked[0] = -torch.inf  # a class that is ruled out
    for output in ({"sem_seg": masked}, {"depth": torch.ones(2, 2)}, {"other": None}):
        assert describe_not_finite(output) == ""
