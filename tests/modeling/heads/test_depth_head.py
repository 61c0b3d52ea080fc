"""`DeconvDepthHead`: sizes, range, initialization, loss and refusals."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from helpers import smallest_depth_cfg
from torch import nn

from metaprompt_d2.layers import silog_loss
from metaprompt_d2.modeling import DEPTH_HEADS_REGISTRY, DeconvDepthHead, build_depth_head

SHAPES = {"p3": ShapeSpec(channels=6, stride=8)}


def small_head(**arguments) -> DeconvDepthHead:
    sizes = {"in_channels": 6, "deconv_dims": (4, 4, 4), "conv_dim": 8}
    return DeconvDepthHead(**(sizes | arguments))


def features(height: int, width: int, batch_size: int = 2) -> dict[str, torch.Tensor]:
    return {"p3": torch.randn(batch_size, 6, height, width)}


@pytest.mark.parametrize("image_size", [(64, 96), (61, 99), (100, 140), (7, 5)])
@pytest.mark.parametrize("feature_size", [(8, 8), (12, 17)])
def test_depth_has_the_images_size_whatever_the_features(
    image_size: tuple, feature_size: tuple
) -> None:
    depth, losses = small_head().eval()(features(*feature_size), image_size)
    assert depth.shape == (2, 1, *image_size)
    assert losses == {}


def test_before_the_last_resizing_depth_has_the_official_size() -> None:
    head = small_head().eval()
    seen = []
    head.decoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].shape))
    assert head.layers(features(16, 24), (100, 140)).shape == (2, 1, 96, 136)
    assert seen == [(2, 6, 12, 17)]


@pytest.mark.parametrize("dims", [(), (4,), (4, 5, 6, 7)])
def test_fewer_and_more_doublings_reach_the_same_size(dims: tuple) -> None:
    head = small_head(deconv_dims=dims, deconv_kernels=(2,) * len(dims)).eval()
    assert head.layers(features(8, 8), (64, 96)).shape == (2, 1, 64, 96)


def test_depth_is_between_zero_and_the_maximum() -> None:
    head = small_head(max_depth=80.0).eval()
    nn.init.constant_(head.predictor[2].bias, 100.0)
    assert (head(features(8, 8), (64, 64))[0] == 80).all()
    nn.init.constant_(head.predictor[2].bias, 0.0)
    nn.init.zeros_(head.predictor[2].weight)
    assert (head(features(8, 8), (64, 64))[0] == 40).all()


def test_modules_have_the_names_of_the_official_layers_in_order() -> None:
    head = small_head()
    deconv = [nn.ConvTranspose2d, nn.BatchNorm2d, nn.ReLU]
    assert [type(layer) for layer in head.decoder] == [*deconv * 3, nn.Conv2d, *deconv[1:]]
    assert [type(layer) for layer in head.predictor] == [nn.Conv2d, nn.ReLU, nn.Conv2d]
    assert {name.split(".")[0] for name in head.state_dict()} == {"decoder", "predictor"}


def test_initialization_is_the_official_one() -> None:
    head = small_head(deconv_dims=(32, 32, 32), conv_dim=64)
    for module in head.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all()
            assert (module.bias == 0).all()
        elif isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            assert module.weight.std().item() == pytest.approx(0.001, rel=0.15)
            assert module.bias is None or (module.bias == 0).all()


def test_training_gives_the_weighted_loss() -> None:
    head = small_head(loss_weight=3.0)
    inputs = features(8, 12)
    targets = torch.rand(2, 64, 96) * 9 * (torch.rand(2, 64, 96) > 0.5)
    depth, losses = head(inputs, (64, 96), targets)
    assert depth is None
    expected = silog_loss(head.layers(inputs, (64, 96))[:, 0], targets) * 3
    torch.testing.assert_close(losses, {"loss_silog": expected})


def test_depth_is_float32_under_autocast() -> None:
    with torch.autocast("cpu", torch.bfloat16):
        depth, _ = small_head().eval()(features(8, 8), (64, 64))
    assert depth.dtype == torch.float32


def test_keys_reach_the_head() -> None:
    cfg = smallest_depth_cfg(
        {
            "MODEL.DEPTH_HEAD.MAX_DEPTH": 80.0,
            "MODEL.DEPTH_HEAD.DECONV_DIMS": (4, 5),
            "MODEL.DEPTH_HEAD.DECONV_KERNELS": (3, 4),
            "MODEL.DEPTH_HEAD.CONVS_DIM": 7,
            "MODEL.DEPTH_HEAD.LOSS_WEIGHT": 2.0,
        }
    )
    head = build_depth_head(cfg, SHAPES)
    assert type(head) is DEPTH_HEADS_REGISTRY.get("DeconvDepthHead")
    assert (head.in_feature, head.max_depth, head.loss_weight) == ("p3", 80, 2)
    assert [tuple(head.decoder[i].weight.shape) for i in (0, 3, 6)] == [
        (6, 4, 3, 3),
        (4, 5, 4, 4),
        (7, 5, 3, 3),
    ]


def test_defaults_are_nyu_depths() -> None:
    head = DeconvDepthHead(in_channels=50)
    assert (head.in_feature, head.max_depth, head.upscale) == ("p3", 10, 8)
    # docs/method.md, "Depth decoder"
    assert [tuple(head.decoder[i].weight.shape) for i in (0, 3, 6, 9)] == [
        (50, 32, 2, 2),
        (32, 32, 2, 2),
        (32, 32, 2, 2),
        (192, 32, 3, 3),
    ]
    assert tuple(head.predictor[2].weight.shape) == (1, 192, 3, 3)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("IN_FEATURE", "p2", r"MODEL\.DEPTH_HEAD\.IN_FEATURE is 'p2', expected one of .*\['p3'\]"),
        ("MAX_DEPTH", 0.0, r"max_depth is 0\.0, expected more than 0"),
    ],
)
def test_impossible_heads_are_refused(key: str, value, message: str) -> None:
    cfg = smallest_depth_cfg()
    cfg.merge_from_list([f"MODEL.DEPTH_HEAD.{key}", value])
    with pytest.raises(ValueError, match=message):
        build_depth_head(cfg, SHAPES)


def test_an_unknown_head_is_refused() -> None:
    cfg = smallest_depth_cfg({"MODEL.DEPTH_HEAD.NAME": "NoHead"})
    with pytest.raises(KeyError, match="NoHead"):
        build_depth_head(cfg, SHAPES)
