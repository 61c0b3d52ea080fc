"""`TopDownPoseEstimator`: losses, crops, boxes from everywhere, flip test, batches."""

from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from helpers import random_image
from pose_files import PEOPLE, person, smallest_pose_cfg, write_people
from torch import Tensor, nn

from metaprompt_d2.codecs import box_to_crop
from metaprompt_d2.data import PoseMapper
from metaprompt_d2.data.datasets.keypoints import load_annotated_people
from metaprompt_d2.modeling import TopDownPoseEstimator

DETECTOR = "COCO-Detection/retinanet_R_50_FPN_1x.yaml"


def model_of(overrides: dict | None = None) -> TopDownPoseEstimator:
    return build_model(smallest_pose_cfg(overrides)).eval()


def image_of(height: int = 80, width: int = 100) -> Tensor:
    return ((random_image(height, width) + 1) * 127.5).round()


def people(boxes: list[list[float]], size: tuple = (80, 100), **fields) -> Instances:
    return Instances(size, pred_boxes=Boxes(torch.tensor(boxes).view(-1, 4)), **fields)


class _BrightSpots(nn.Module):
    """A head that sees: keypoint j is where channel j of the backbone is bright."""

    def forward(
        self, features: Mapping[str, Tensor], image_size: tuple[int, int]
    ) -> tuple[Tensor, dict]:
        return features["p2"], {}


class _Blur(nn.Module):
    """A backbone of stride 4 that passes red on as all of 17 channels, green as the last."""

    size_divisibility, padding_constraints = 0, {}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        size = [side // 4 for side in images.shape[-2:]]
        small = nn.functional.interpolate(images, size, mode="area")
        return {"p2": torch.cat([small[:, :1].expand(-1, 16, -1, -1), small[:, 1:2]], dim=1)}


def seeing_model(flip: bool) -> TopDownPoseEstimator:
    cfg = smallest_pose_cfg({"INPUT.PERSON_CROP.SIZE": (256, 192), "TEST.AUG.ENABLED": flip})
    model = build_model(cfg).eval()
    model.backbone, model.heatmap_head = _Blur(), _BrightSpots()
    model.pixel_mean.zero_()
    return model


@pytest.mark.parametrize("num_prompts", [17, 20])
def test_training_gives_the_heads_loss_and_trains_everything_but_the_vae(
    num_prompts: int, tmp_path: Path
) -> None:
    items = load_annotated_people(
        str(write_people(tmp_path, [person(1), person(2, 2)])), str(tmp_path), **PEOPLE
    )
    mapper = PoseMapper(smallest_pose_cfg(), is_train=True)
    model = build_model(
        smallest_pose_cfg(
            {
                "MODEL.HEATMAP_HEAD.IN_FEATURE": "p2",
                "MODEL.HEATMAP_HEAD.WIRING": "prompts",
                "MODEL.META_PROMPT.NUM_PROMPTS": num_prompts,
                "MODEL.META_PROMPT.OUT_FEATURES": ("p2",),
            }
        )
    ).train()
    losses = model([mapper(item) for item in items])
    assert losses.keys() == {"loss_heatmap"}
    losses["loss_heatmap"].backward()
    untrained = {
        name.split(".")[1] for name, value in model.named_parameters() if value.grad is None
    }
    assert untrained == {"latent_encoder"}
    (prompts,) = model.backbone.refinement.meta_prompts.embeddings
    assert prompts.grad.any(dim=1).all()  # those that are left over, too


@pytest.mark.parametrize("size", [(64, 48), (128, 96), (96, 72)])
@pytest.mark.parametrize("rearrange", ["pyramid", "none"])
def test_any_size_of_crop_on_re_arranged_and_raw_maps(size: tuple, rearrange: str) -> None:
    overrides = {"INPUT.PERSON_CROP.SIZE": size, "MODEL.META_PROMPT.REARRANGE": rearrange}
    overrides["MODEL.HEATMAP_HEAD.IN_FEATURE"] = {"pyramid": "p4", "none": "up4"}[rearrange]
    (output,) = model_of(overrides | {"TEST.POSE.HEATMAPS": True})([{"image": image_of()}])
    heatmaps = output["instances"].pred_keypoint_heatmaps
    assert heatmaps.shape == (1, 17, size[0] // 4, size[1] // 4)


def test_people_of_several_images_pass_together_as_they_do_alone() -> None:
    first = {"image": image_of(), "instances": people([[5.0, 5, 40, 70], [50, 20, 90, 60]])}
    second = {"image": image_of(50, 60)}
    nobody = {"image": image_of(), "instances": people([])}
    together = model_of({"TEST.POSE.BATCH_SIZE": 2})
    alone = model_of({"TEST.POSE.BATCH_SIZE": 1})
    alone.load_state_dict(together.state_dict())
    outputs = together([first, nobody, second])
    assert [len(output["instances"]) for output in outputs] == [2, 0, 1]
    for inputs, output in zip((first, nobody, second), outputs, strict=True):
        torch.testing.assert_close(
            output["instances"].pred_keypoints,
            alone([inputs])[0]["instances"].pred_keypoints,
            atol=1e-3,
            rtol=1e-3,
        )


def test_the_fields_are_detectron2s_at_the_files_size() -> None:
    inputs = {"image": image_of(), "height": 160, "width": 300}
    inputs["instances"] = people(
        [[10.0, 10, 40, 70], [30, 30, 30, 50]], scores=torch.tensor([0.7, 0.9])
    )
    (output,) = model_of()([inputs])
    instances = output["instances"]
    assert instances.image_size == (160, 300)
    assert instances.pred_boxes.tensor.tolist() == [[30, 20, 120, 140]]  # one has no area
    assert instances.scores.tolist() == pytest.approx([0.7])
    assert instances.pred_classes.tolist() == [0]
    assert instances.pred_keypoints.shape == (1, 17, 3)
    _, extent = box_to_crop([10, 10, 30, 60], aspect=0.75)
    assert instances.crop_areas.item() == pytest.approx(extent.prod() * 2 * 3)
    assert not instances.has("pred_keypoint_heatmaps")


def test_boxes_count_in_their_own_image_size() -> None:
    model = model_of()
    image = image_of()
    one, two = (
        model([{"image": image, "instances": given}])[0]["instances"].pred_keypoints
        for given in (people([[10.0, 10, 40, 70]]), people([[5.0, 5, 20, 35]], (40, 50)))
    )
    torch.testing.assert_close(one, two)


def test_without_boxes_the_whole_image_is_one_person() -> None:
    (output,) = model_of()([{"image": image_of()}])
    assert output["instances"].pred_boxes.tensor.tolist() == [[0, 0, 100, 80]]
    assert output["instances"].scores.tolist() == [1]


def test_instances_without_boxes_are_refused() -> None:
    given = Instances((80, 100), scores=torch.ones(1))
    with pytest.raises(ValueError, match=r"have \['scores'\], expected boxes"):
        model_of()([{"image": image_of(), "instances": given}])


@pytest.mark.parametrize("flip", [False, True])
def test_a_bright_spot_is_found_where_it_is(flip: bool) -> None:
    """Image -> crop -> heatmap -> image is a round trip, within the blur of the stride."""
    image = torch.zeros(3, 300, 400)
    # The first keypoints' flipped ones see red too; the last, a right ankle, would be a left one.
    image[0, 148:153, 248:253] = 255
    given = people([[200.0, 100, 290, 220]], (300, 400))
    (output,) = seeing_model(flip)([{"image": image, "instances": given}])
    nose = output["instances"].pred_keypoints[0, 0, :2]
    pixel = 120 * 1.25 / 255
    torch.testing.assert_close(nose, torch.tensor([250.0, 150.0]), atol=3 * pixel, rtol=0)


def test_the_mirrored_crop_joins_in_with_keypoints_swapped() -> None:
    model = seeing_model(flip=True)
    image = image_of(256, 192)
    crops = model._normalize(image)[None]
    model.flip = False
    alone, mirrored = model._predict(crops), model._predict(crops.flip(-1))
    model.flip = True
    expected = (alone + mirrored[:, list(model.schema.flip_indices)].flip(-1)) / 2
    torch.testing.assert_close(model._predict(crops), expected)


def test_the_models_crop_is_the_mappers(tmp_path: Path) -> None:
    (item,) = load_annotated_people(
        str(write_people(tmp_path, [person(1)])), str(tmp_path), **PEOPLE
    )
    mapped = PoseMapper(smallest_pose_cfg(), is_train=False)(item)
    image = torch.from_numpy(cv2.imread(item["file_name"])[..., ::-1].copy()).permute(2, 0, 1)
    left, top, width, height = item["person_box"]
    given = people([[left, top, left + width, top + height]])
    model = model_of()
    crop = model._find_people({"image": image, "instances": given}).crops[0]
    difference = (crop - model._normalize(mapped["image"])).abs() * 127.5
    assert difference.mean() < 1.5
    assert difference.max() < 12  # OpenCV rounds to 1/32 pixel, here of noise
    keypoints = [
        model([inputs])[0]["instances"].pred_keypoints[0, :, :2]
        for inputs in (mapped, {"image": image, "instances": given})
    ]
    assert (keypoints[0] - keypoints[1]).abs().median() < 1


def test_a_detector_named_by_config_finds_the_people(tmp_path: Path) -> None:
    node = "MODEL.PERSON_DETECTOR"
    model = model_of({f"{node}.CONFIG_FILE": DETECTOR, f"{node}.WEIGHTS": "later.pth"})
    model.detector.cfg.MODEL.WEIGHTS = ""
    assert not any("detector" in name for name in model.state_dict())
    model.detector.cfg.INPUT.MIN_SIZE_TEST = 64
    model.detector.cfg.MODEL.RETINANET.NUM_CLASSES = 1
    model.detector.cfg.MODEL.RETINANET.NUM_CONVS = 1
    model.detector.cfg.MODEL.RESNETS.DEPTH = 18
    model.detector.cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    model.detector.cfg.MODEL.FPN.OUT_CHANNELS = 8
    model.detector.score_threshold = 1.1
    (output,) = model([{"image": image_of()}])
    assert len(output["instances"]) == 0
    model.detector.score_threshold = 0.0
    model.detector.cfg.MODEL.RETINANET.SCORE_THRESH_TEST = 0.0
    model.detector._model = None
    (output,) = model([{"image": image_of()}])
    count = len(output["instances"])
    assert 0 < count <= 100
    assert (output["instances"].scores <= 1).all()

    file = tmp_path / "detector.pth"
    state = model.detector._model.state_dict()
    torch.save({"model": {f"module.{name}": value for name, value in state.items()}}, file)
    model.detector.cfg.MODEL.WEIGHTS = str(file)
    model.detector._model = None
    assert len(model([{"image": image_of()}])[0]["instances"]) >= 0
    state.pop("head.cls_score.weight")
    torch.save({"model": state}, file)
    model.detector._model = None
    with pytest.raises(ValueError, match=r"lacks 1 tensors .* 'head.cls_score.weight'"):
        model([{"image": image_of()}])


def test_an_unknown_detector_is_named() -> None:
    with pytest.raises(FileNotFoundError, match="nothing.yaml is neither a file nor"):
        model_of({"MODEL.PERSON_DETECTOR.CONFIG_FILE": "nothing.yaml"})


def test_another_backbone_of_detectron2() -> None:
    overrides = {
        "MODEL.BACKBONE.NAME": "build_resnet_backbone",
        "MODEL.RESNETS.DEPTH": 18,
        "MODEL.RESNETS.RES2_OUT_CHANNELS": 64,
        "MODEL.RESNETS.OUT_FEATURES": ["res4"],
        "MODEL.HEATMAP_HEAD.IN_FEATURE": "res4",
        "MODEL.HEATMAP_HEAD.SIZE_DIVISIBILITY": 0,
    }
    (output,) = model_of(overrides)([{"image": image_of()}])
    assert np.isfinite(output["instances"].pred_keypoints.detach().numpy()).all()


def test_inputs_of_detectron2s_own_mapper_are_refused_with_the_right_one() -> None:
    """Their images have any size, so that they couldn't be stacked either."""
    inputs = [{"image": image_of(), "instances": None}, {"image": image_of(64), "instances": None}]
    message = r"TopDownPoseEstimator lack 'heatmaps'; they have .* needs PoseMapper,"
    with pytest.raises(ValueError, match=message):
        model_of().train()(inputs)
