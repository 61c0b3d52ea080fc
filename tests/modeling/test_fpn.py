"""The FPN on the raw maps: Detectron2's levels, true strides, true padding."""

import pytest
import torch
from detectron2.modeling import build_backbone
from detectron2.modeling.backbone.fpn import LastLevelMaxPool, LastLevelP6P7
from helpers import smallest_backbone, smallest_cfg
from torch import nn

from metaprompt_d2.modeling import FinerMap, MetaPromptFPN

RCNN, RETINANET = "build_metaprompt_fpn_backbone", "build_retinanet_metaprompt_fpn_backbone"
FCOS = "build_fcos_metaprompt_fpn_backbone"


def fpn(name: str, in_features: list[str], rearrange: str = "none") -> MetaPromptFPN:
    overrides = {
        "MODEL.BACKBONE.NAME": name,
        "MODEL.META_PROMPT.REARRANGE": rearrange,
        "MODEL.FPN.IN_FEATURES": in_features,
        "MODEL.FPN.OUT_CHANNELS": 8,
    }
    return build_backbone(smallest_cfg(overrides))


@pytest.mark.parametrize(
    ("name", "in_features", "levels", "top_block"),
    [
        (RCNN, ["up2", "up3", "up4", "up5", "up6"], range(2, 7), type(None)),
        (RCNN, ["up2", "up3", "up4", "up5"], range(2, 7), LastLevelMaxPool),
        (RCNN, ["up3", "up4", "up5", "up6"], range(3, 7), type(None)),
        (RETINANET, ["up3", "up4", "up5"], range(3, 8), LastLevelP6P7),
        (FCOS, ["up3", "up4", "up5"], range(3, 8), LastLevelP6P7),
    ],
)
def test_levels_are_those_that_detectors_ask_for(
    name: str, in_features: list[str], levels: range, top_block: type
) -> None:
    backbone = fpn(name, in_features)
    assert isinstance(backbone.top_block, top_block)
    shapes = backbone.output_shape()
    assert {key: shape.stride for key, shape in shapes.items()} == {
        f"p{level}": 2**level for level in levels
    }
    features = backbone(torch.zeros(1, 3, 128, 192))
    assert features.keys() == shapes.keys()
    for key, feature in features.items():
        stride = shapes[key].stride
        assert feature.shape == (1, 8, -(-128 // stride), -(-192 // stride)), key


@pytest.mark.parametrize("in_features", [["up2", "up3", "up4"], ["up3", "up4", "up5", "up6"]])
def test_images_are_padded_to_what_the_unet_needs(in_features: list[str]) -> None:
    backbone = fpn(RCNN, in_features)
    assert backbone.size_divisibility == 64
    assert backbone.padding_constraints == {"square_size": 0}


def test_prompts_and_finer_map_learn_through_the_fpn() -> None:
    backbone = fpn(RCNN, ["up2", "up3", "up4", "up5", "up6"])
    features = backbone(torch.rand(1, 3, 64, 64) * 2 - 1)
    sum(feature.square().mean() for feature in features.values()).backward()
    for name, parameter in backbone.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, name  # DDP needs all
    (prompts,) = backbone.bottom_up.backbone.refinement.meta_prompts.embeddings
    assert prompts.grad.abs().sum() > 0


def test_the_finer_map_keeps_the_others_and_doubles_the_finest() -> None:
    backbone = smallest_backbone({"MODEL.META_PROMPT.REARRANGE": "none"}).eval()
    finer = FinerMap(backbone).eval()
    assert list(finer.output_shape()) == ["up2", "up3", "up4", "up5", "up6"]
    assert (finer.output_shape()["up2"].stride, finer.output_shape()["up2"].channels) == (4, 4)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        features, alone = finer(images), backbone(images)
    assert features["up2"].shape == (1, 4, 16, 16)
    assert all(features[name].equal(alone[name]) for name in alone)
    assert finer.size_divisibility == 64
    assert finer.padding_constraints == {}
    assert isinstance(finer.upsample, nn.ConvTranspose2d)


@pytest.mark.parametrize("name", [RCNN, RETINANET, FCOS])
@pytest.mark.parametrize(
    ("in_features", "rearrange"),
    [([], "none"), (["res3", "res4", "res5"], "none"), (["up3", "up4", "up5"], "pyramid")],
)
def test_other_features_are_refused(name: str, in_features: list[str], rearrange: str) -> None:
    with pytest.raises(ValueError, match=r"MODEL\.FPN\.IN_FEATURES .*REARRANGE \"none\""):
        fpn(name, in_features, rearrange)


def test_an_unknown_feature_among_others_is_named() -> None:
    with pytest.raises(ValueError, match=r"in_features names \['up1'\]"):
        fpn(RCNN, ["up1", "up2", "up3"])


@pytest.mark.parametrize(("name", "expected"), [(RETINANET, "up5"), (FCOS, "p5")])
def test_the_coarsest_levels_are_made_from(name: str, expected: str) -> None:
    assert fpn(name, ["up3", "up4", "up5"]).top_block.in_feature == expected


def test_fcos_needs_a_p5() -> None:
    with pytest.raises(ValueError, match=r"IN_FEATURES is \['up3', 'up4'\], expected to end at"):
        fpn(FCOS, ["up3", "up4"])
