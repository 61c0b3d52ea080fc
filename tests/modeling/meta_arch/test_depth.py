"""`DepthEstimator` on our backbone and on a ResNet, whole and in windows, with bad input."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetMapper
from helpers import depth_inputs, smallest_depth_cfg, smallest_depth_model
from torch import nn

from metaprompt_d2.modeling import DepthEstimator
from metaprompt_d2.utils.errors import InputError

RESNET_FPN = {
    "MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone",
    "MODEL.BACKBONE.FREEZE_AT": 0,
    "MODEL.RESNETS.DEPTH": 18,
    "MODEL.RESNETS.NORM": "BN",
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 8,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 64,
    "MODEL.RESNETS.OUT_FEATURES": ["res2", "res3", "res4", "res5"],
    "MODEL.FPN.IN_FEATURES": ["res2", "res3", "res4", "res5"],
    "MODEL.FPN.OUT_CHANNELS": 8,
}
MODELS = {
    "official": {},
    "KITTI's resize scale": {"MODEL.DEPTH_HEAD.RESIZE_SCALE": 2},
    "not resized": {"MODEL.DEPTH_HEAD.RESIZE_SCALE": 0},
    "raw maps, padded": {
        "MODEL.META_PROMPT.REARRANGE": "none",
        "MODEL.DEPTH_HEAD.IN_FEATURE": "up3",
        "MODEL.DEPTH_HEAD.RESIZE_SCALE": 0,
    },
    "ResNet, padded": RESNET_FPN | {"MODEL.DEPTH_HEAD.RESIZE_SCALE": 0},
    "ResNet, resized": RESNET_FPN,
}


@pytest.fixture(scope="module", params=list(MODELS))
def model(request: pytest.FixtureRequest) -> nn.Module:
    return sensitive(smallest_depth_model(MODELS[request.param]))


@pytest.fixture(scope="module")
def official() -> nn.Module:
    return sensitive(smallest_depth_model())


def sensitive(model: nn.Module) -> nn.Module:
    """With a head whose output varies, unlike the one it starts with."""
    for module in model.depth_head.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(module.weight, std=0.3)
    return model


@torch.no_grad()
def predict(model: nn.Module, images: list[torch.Tensor]) -> list[torch.Tensor]:
    return [output["depth"] for output in model.eval()([{"image": image} for image in images])]


def image(height: int, width: int) -> torch.Tensor:
    return torch.rand(3, height, width)


@pytest.mark.parametrize("size", [(64, 64), (70, 150), (33, 40)])
def test_depth_has_the_asked_size_and_range(model: nn.Module, size: tuple) -> None:
    inputs = [{"image": image(*size)}, {"image": image(*size), "height": 81, "width": 33}]
    with torch.no_grad():
        first, second = (output["depth"] for output in model.eval()(inputs))
    assert first.shape == size
    assert second.shape == (81, 33)
    for depth in (first, second):
        assert depth.dtype == torch.float32
        assert ((depth > 0) & (depth < 10)).all()
    assert first.std() > 0


def test_images_of_a_batch_are_predicted_independently_and_in_order(model: nn.Module) -> None:
    images = [image(64, 96), image(70, 64), image(64, 96)]
    together = predict(model, images)
    alone = [predict(model, [each])[0] for each in images]
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def seen_by_the_backbone(model: nn.Module, images: list[torch.Tensor]) -> list[torch.Tensor]:
    seen = []
    hook = model.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    predict(model, images)
    hook.remove()
    return seen


def test_images_of_one_size_pass_through_the_model_together(official: nn.Module) -> None:
    images = [image(64, 96), image(70, 64), image(64, 96)]
    assert [len(batch) for batch in seen_by_the_backbone(official, images)] == [2, 1]


@pytest.mark.parametrize(
    ("scale", "size", "expected"),
    [
        (1, (480, 480), (512, 512)),
        (2, (352, 352), (448, 448)),
        (1, (96, 128), (128, 192)),
        (1, (63, 1), (64, 64)),
        (0, (63, 100), (63, 100)),
    ],
)
def test_the_official_input_sizes(
    official: nn.Module, scale: int, size: tuple, expected: tuple
) -> None:
    seen = []
    model = DepthEstimator(
        backbone=Recorder(seen),
        depth_head=nn.Identity(),
        pixel_mean=[0.0] * 3,
        pixel_std=[1.0] * 3,
        resize_scale=scale,
    )
    model._features(torch.zeros(1, 3, *size))
    assert seen == [expected]


class Recorder(nn.Module):
    """A backbone that notes the sizes it sees."""

    size_divisibility = 0
    padding_constraints: dict = {}

    def __init__(self, seen: list):
        super().__init__()
        self.seen = seen

    def forward(self, images: torch.Tensor) -> dict:
        self.seen.append(tuple(images.shape[-2:]))
        return {}


def test_unresized_images_are_padded_as_the_backbone_asks() -> None:
    model = smallest_depth_model(MODELS["raw maps, padded"])
    (batch,) = seen_by_the_backbone(model, [image(70, 64)])
    assert batch.shape == (1, 3, 128, 64)
    assert (batch[:, :, 70:] == 0).all()


def test_images_are_normalized_before_the_backbone() -> None:
    overrides = {"MODEL.PIXEL_MEAN": [127.5] * 3, "MODEL.PIXEL_STD": [127.5] * 3}
    model = smallest_depth_model(overrides)
    black, white = (torch.full((3, 64, 64), value, dtype=torch.uint8) for value in (0, 255))
    (batch,) = seen_by_the_backbone(model, [black, white])
    assert (batch[0] == -1).all()
    assert (batch[1] == 1).all()


# ------------------------------------------------------------------ windows and mirror images

WINDOWS = {"TEST.SHIFTED_WINDOWS.COUNT": 2}
FLIP = {"TEST.AUG.ENABLED": True, "TEST.AUG.FLIP": True}


def same_weights(model: nn.Module, overrides: dict) -> nn.Module:
    other = smallest_depth_model(overrides)
    other.load_state_dict(model.state_dict())
    return other


def test_windows_are_the_average_of_crops_predicted_alone(official: nn.Module) -> None:
    whole = image(64, 96)
    (result,) = predict(same_weights(official, WINDOWS), [whole])
    left, right = predict(official, [whole[..., :64], whole[..., 32:]])
    expected = torch.cat([left[:, :32], (left[:, 32:] + right[:, :32]) / 2, right[:, 32:]], dim=1)
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4)


def test_the_mirror_image_is_averaged(official: nn.Module) -> None:
    whole = image(64, 96)
    (result,) = predict(same_weights(official, FLIP), [whole])
    plain, mirrored = predict(official, [whole, whole.flip(-1)])
    torch.testing.assert_close(result, (plain + mirrored.flip(-1)) / 2, rtol=1e-4, atol=1e-4)


def test_a_mirrored_input_gives_the_mirrored_depth(official: nn.Module) -> None:
    model = same_weights(official, WINDOWS | FLIP)
    whole = image(64, 96)
    plain, mirrored = predict(model, [whole, whole.flip(-1)])
    torch.testing.assert_close(mirrored.flip(-1), plain, rtol=1e-4, atol=1e-4)


def test_official_windows_leave_nan_where_they_end_short(official: nn.Module) -> None:
    count = {"TEST.SHIFTED_WINDOWS.COUNT": 3}
    short = count | {"TEST.SHIFTED_WINDOWS.COVER_ALL": False}
    whole = image(64, 97)  # starts 0, 16, 32: up to column 96
    (uncovered,) = predict(same_weights(official, short), [whole])
    assert uncovered.isnan().any(dim=0).tolist() == [False] * 96 + [True]
    (covered,) = predict(same_weights(official, count), [whole])
    assert covered.isfinite().all()


@pytest.mark.parametrize("batch_size", [1, 3])
def test_no_more_windows_pass_at_once_than_the_key_allows(
    official: nn.Module, batch_size: int
) -> None:
    model = same_weights(official, WINDOWS | FLIP | {"TEST.SLIDING_WINDOW.BATCH_SIZE": batch_size})
    seen = seen_by_the_backbone(model, [image(64, 96)])
    assert [len(batch) for batch in seen] == {1: [1] * 4, 3: [3, 1]}[batch_size]


def test_flipping_needs_both_of_detectron2s_keys() -> None:
    for enabled, flip in ((False, True), (True, False)):
        keys = {"TEST.AUG.ENABLED": enabled, "TEST.AUG.FLIP": flip}
        assert not smallest_depth_model(keys).flip
    assert smallest_depth_model(FLIP).flip


# ------------------------------------------------------------------ training


@pytest.mark.parametrize("sizes", [[(64, 64)] * 2, [(64, 96), (80, 64)], [(61, 70), (64, 33)]])
def test_training_gives_finite_loss_and_gradients(model: nn.Module, sizes: list) -> None:
    model.train().zero_grad()
    losses = model(depth_inputs(sizes))
    assert losses.keys() == {"loss_silog"}
    losses["loss_silog"].backward()
    gradients = {
        name: parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and parameter.grad is not None
    }
    assert any(name.startswith("backbone.") for name in gradients)
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())
    assert losses["loss_silog"].isfinite()


def test_what_fills_up_smaller_images_of_a_batch_has_no_target() -> None:
    model = smallest_depth_model().train()
    small, large = depth_inputs([(64, 32), (64, 64)])
    seen = []
    model.depth_head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[2]))
    model([small, large])
    (targets,) = seen
    assert torch.equal(targets[0, :, :32], small["depth"])
    assert (targets[0, :, 32:] == 0).all()
    assert torch.equal(targets[1], large["depth"])


def test_a_batch_without_ground_truth_trains_nothing_and_has_a_finite_loss() -> None:
    model = smallest_depth_model().train()
    inputs = [item | {"depth": torch.zeros(64, 64)} for item in depth_inputs([(64, 64)] * 2)]
    loss = model(inputs)["loss_silog"]
    loss.backward()
    assert loss.item() == 0
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert gradients
    assert all((gradient == 0).all() for gradient in gradients)


def test_batch_norm_is_plain() -> None:
    norms = [m for m in smallest_depth_model().modules() if "BatchNorm" in type(m).__name__]
    assert norms
    assert {type(norm) for norm in norms} == {nn.BatchNorm2d}


# ------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("name", "value"), [("resize_scale", -1), ("num_windows", -1), ("window_batch_size", 0)]
)
def test_impossible_arguments_are_refused_by_their_name(name: str, value: int) -> None:
    arguments = {"backbone": Recorder([]), "depth_head": nn.Identity(), name: value}
    with pytest.raises(InputError, match=rf"^{name} is {value}, expected at least"):
        DepthEstimator(**arguments, pixel_mean=[0.0], pixel_std=[1.0])


def test_a_backbone_that_cannot_take_resized_images_is_refused() -> None:
    backbone = Recorder([])
    backbone.size_divisibility = 48
    arguments = {"depth_head": nn.Identity(), "pixel_mean": [0.0], "pixel_std": [1.0]}
    with pytest.raises(ValueError, match=r"multiples of 48 .*resize_scale to 0"):
        DepthEstimator(backbone=backbone, **arguments)
    DepthEstimator(backbone=backbone, resize_scale=0, **arguments)


def test_pixel_statistics_are_not_part_of_a_checkpoint() -> None:
    prefixes = {name.split(".")[0] for name in smallest_depth_model().state_dict()}
    assert prefixes == {"backbone", "depth_head"}


def test_inputs_of_detectron2s_own_mapper_are_refused_with_the_right_one(
    official: nn.Module, tmp_path: Path
) -> None:
    file = str(tmp_path / "image.png")
    cv2.imwrite(file, np.zeros((64, 64, 3), np.uint8))
    mapper = DatasetMapper(smallest_depth_cfg({"INPUT.CROP.ENABLED": False}), is_train=True)
    message = r"DepthEstimator lack 'depth'; they have .*'image', .* needs DepthMapper,"
    with pytest.raises(InputError, match=message):
        official.train()([mapper({"file_name": file, "height": 64, "width": 64})])
