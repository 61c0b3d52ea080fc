"""`UPerHead`: shapes, losses, options and errors."""

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_sem_seg_head
from helpers import random_labels, smallest_cfg, smallest_model
from torch import nn
from torch.nn import functional as F

from metaprompt_d2.layers import lovasz_softmax, mean_cross_entropy
from metaprompt_d2.modeling import UPerHead
from metaprompt_d2.utils.errors import InputError

SHAPES = {f"p{level}": ShapeSpec(channels=6, stride=2**level) for level in (2, 3, 4, 5)}
NUM_CLASSES = 5


def head(**arguments) -> UPerHead:
    defaults = {"num_classes": NUM_CLASSES, "conv_dim": 8, "dropout": 0.0}
    return UPerHead(SHAPES, **(defaults | arguments))


def features(batch_size: int = 2, height: int = 64, width: int = 96) -> dict[str, torch.Tensor]:
    return {
        name: torch.randn(batch_size, 6, height // shape.stride, width // shape.stride)
        for name, shape in SHAPES.items()
    }


def labels(batch_size: int = 2, height: int = 64, width: int = 96) -> torch.Tensor:
    return torch.stack([random_labels(height, width, NUM_CLASSES) for _ in range(batch_size)])


def losses_of(module: UPerHead, maps: dict, targets: torch.Tensor) -> dict[str, torch.Tensor]:
    """The losses with all layers in evaluation mode."""
    module.eval().training = True
    return module(maps, targets)[1]


def test_inference_gives_logits_at_the_image_size_and_no_losses() -> None:
    logits, losses = head().eval()(features())
    assert logits.shape == (2, NUM_CLASSES, 64, 96)
    assert losses == {}


def test_training_gives_three_losses_and_no_logits() -> None:
    logits, losses = head().train()(features(), labels())
    assert logits is None
    assert list(losses) == ["loss_sem_seg", "loss_lovasz", "loss_aux"]


def test_losses_are_those_of_the_upsampled_logits_times_their_weights() -> None:
    weights = {"loss_weight": 2.0, "lovasz_loss_weight": 3.0, "aux_loss_weight": 0.5}
    module, maps, targets = head(**weights), features(), labels()
    losses = losses_of(module, maps, targets)
    logits = module.layers(maps)

    def resized(x: torch.Tensor) -> torch.Tensor:
        return F.interpolate(x, size=(64, 96), mode="bilinear", align_corners=False)

    aux = module.aux_head(maps["p4"])
    expected = {
        "loss_sem_seg": 2 * mean_cross_entropy(resized(logits), targets),
        "loss_lovasz": 3 * lovasz_softmax(resized(logits), targets),
        "loss_aux": 0.5 * mean_cross_entropy(resized(aux), targets),
    }
    torch.testing.assert_close(losses, expected)


def test_losses_follow_the_size_of_the_targets() -> None:
    module = head().train()
    _, losses = module(features(), labels(height=61, width=90))
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_losses_are_float32_for_half_precision_features() -> None:
    maps = {name: feature.bfloat16() for name, feature in features().items()}
    losses = losses_of(head().bfloat16(), maps, labels())
    assert {loss.dtype for loss in losses.values()} == {torch.float32}


def test_every_parameter_gets_a_gradient() -> None:
    module = head().train()
    _, losses = module(features(), labels())
    sum(losses.values()).backward()
    assert [name for name, p in module.named_parameters() if p.grad is None] == []


def test_weights_of_zero_leave_out_their_parts() -> None:
    module = head(lovasz_loss_weight=0.0, aux_loss_weight=0.0, aux_in_feature="nowhere").train()
    assert not hasattr(module, "aux_head")
    assert list(module(features(), labels())[1]) == ["loss_sem_seg"]


def test_ignored_pixels_have_no_influence() -> None:
    targets = torch.full((2, 64, 96), 4)
    losses = losses_of(head(ignore_value=4, num_classes=4), features(), targets)
    assert [loss.item() for loss in losses.values()] == [0, 0, 0]


def test_pyramid_pooling_sees_the_mean_of_the_coarsest_map() -> None:
    """With a single pooling scale of 1 every position gets the map's mean, by hand."""
    module = head(pool_scales=(1,), norm="").eval()
    feature = torch.randn(1, 6, 2, 3)
    mean = feature.mean(dim=(2, 3), keepdim=True)
    (pooling,) = module.pyramid_pooling
    conv = pooling[1]
    pooled = F.relu(F.conv2d(mean, conv.weight, conv.bias)).expand(-1, -1, 2, 3)
    expected = module.bottleneck(torch.cat([feature, pooled], dim=1))
    torch.testing.assert_close(module._pool_pyramid(feature), expected)


def test_the_fine_map_receives_the_coarse_ones_top_down() -> None:
    module, maps = head().eval(), list(features(1).values())
    before = module.pyramid(maps)
    maps[3] = maps[3] + 10
    after = module.pyramid(maps)
    assert not any(torch.allclose(a, b) for a, b in zip(before, after, strict=True))
    maps[0] = maps[0] + 10
    last = module.pyramid(maps)
    assert [torch.equal(a, b) for a, b in zip(after, last, strict=True)] == [False] + [True] * 3


def test_features_are_ordered_by_stride_whatever_their_order_in_the_dict() -> None:
    module = UPerHead(dict(reversed(SHAPES.items())), num_classes=2, conv_dim=8)
    assert module.in_features == ["p2", "p3", "p4", "p5"]
    assert module.common_stride == 4


def test_dropout_acts_in_training_only() -> None:
    module = head(dropout=0.9, aux_loss_weight=0.0).eval()
    maps = features()
    assert torch.equal(module.layers(maps), module.layers(maps))
    module.dropout.train()
    assert not torch.equal(module.layers(maps), module.layers(maps))


def test_convolutions_before_a_norm_have_no_bias_and_classifiers_start_small() -> None:
    module = head(conv_dim=64)
    assert module.fuse.bias is None
    assert isinstance(module.fuse.norm, nn.BatchNorm2d)  # "SyncBN" in a single process
    assert head(norm="").fuse.bias is not None
    for classifier in (module.predictor, module.aux_head[2]):
        assert classifier.weight.std().item() == pytest.approx(0.01, rel=0.2)
        assert not classifier.bias.any()


@pytest.mark.parametrize("norm", ["BN", "SyncBN"])
def test_batch_norm_on_a_single_image_is_refused_with_ways_out(norm: str) -> None:
    module = head(norm=norm).train()
    with pytest.raises(ValueError, match=r"SOLVER\.IMS_PER_BATCH.*MODEL\.SEM_SEG_HEAD\.NORM"):
        module(features(1), labels(1))


@pytest.mark.parametrize("arguments", [{"norm": "GN", "conv_dim": 64}, {"pool_scales": (2, 3)}])
def test_a_single_image_trains_without_batch_norm_on_one_value(arguments: dict) -> None:
    _, losses = head(**arguments).train()(features(1), labels(1))
    assert all(torch.isfinite(loss) for loss in losses.values())


def test_a_single_image_passes_in_inference() -> None:
    assert head().eval()(features(1))[0].shape == (1, NUM_CLASSES, 64, 96)


def test_a_missing_input_feature_is_named() -> None:
    cfg = smallest_cfg({"MODEL.SEM_SEG_HEAD.IN_FEATURES": ["p2", "res5"]})
    with pytest.raises(ValueError, match=r"IN_FEATURES: the backbone has no \['res5'\].*p5"):
        build_sem_seg_head(cfg, SHAPES)


@pytest.mark.parametrize("feature", ["p9", ""])
def test_a_wrong_auxiliary_feature_is_named(feature: str) -> None:
    cfg = smallest_cfg({"MODEL.SEM_SEG_HEAD.AUX_IN_FEATURE": feature})
    with pytest.raises(ValueError, match=rf"aux_in_feature is '{feature}', expected.*'p2'"):
        build_sem_seg_head(cfg, SHAPES)


def test_config_keys_reach_the_head() -> None:
    keys = {
        "POOL_SCALES": (1, 4),
        "CONVS_DIM": 32,  # of which GN makes 32 groups
        "NUM_CLASSES": 3,
        "DROPOUT": 0.25,
        "LOSS_WEIGHT": 0.5,
        "LOVASZ_LOSS_WEIGHT": 0.25,
        "AUX_LOSS_WEIGHT": 0.75,
        "AUX_IN_FEATURE": "p3",
        "IGNORE_VALUE": 7,
        "NORM": "GN",
    }

    cfg = smallest_cfg({f"MODEL.SEM_SEG_HEAD.{key}": value for key, value in keys.items()})
    module = build_sem_seg_head(cfg, SHAPES)
    assert [branch[0].output_size for branch in module.pyramid_pooling] == [1, 4]
    assert module.predictor.weight.shape == (3, 32, 1, 1)
    assert module.dropout.p == module.aux_head[1].p == 0.25
    weights = (module.loss_weight, module.lovasz_loss_weight, module.aux_loss_weight)
    assert weights == (0.5, 0.25, 0.75)
    assert module.aux_in_feature == "p3"
    assert module.ignore_value == 7
    assert isinstance(module.fuse.norm, nn.GroupNorm)


def test_an_unknown_norm_is_named() -> None:
    with pytest.raises(ValueError, match=r"SEM_SEG_HEAD\.NORM is 'batch', expected one of"):
        smallest_model({"MODEL.SEM_SEG_HEAD.NORM": "batch"})


def test_pooled_maps_are_normalized_in_float32_under_autocast() -> None:
    """Where images differ by less than half precision resolves."""
    module = head(norm="BN").train()
    maps = {name: torch.ones_like(value) for name, value in features().items()}
    maps["p5"] = (1000 + torch.randn_like(maps["p5"])).bfloat16()
    pooled = module.pyramid_pooling[0]
    exact = pooled(maps["p5"].float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = pooled(maps["p5"])
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output, exact.bfloat16(), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("norm", "conv_dim", "pool_scales", "size", "fits"),
    [
        ("BN", 8, (1, 2), (64, 96), False),
        ("SyncBN", 8, (1, 2), (64, 96), False),
        ("nnSyncBN", 8, (1, 2), (64, 96), False),
        ("naiveSyncBN", 8, (1, 2), (64, 96), False),
        ("naiveSyncBN_N", 8, (1, 2), (64, 96), False),
        ("BN", 8, (2,), (64, 96), True),
        ("BN", 8, (2,), (32, 32), False),
        ("GN", 32, (1, 2), (64, 96), False),
        ("GN", 64, (1, 2), (64, 96), True),
        ("GN", 64, (1, 2), (32, 32), True),
        ("FrozenBN", 8, (1, 2), (32, 32), True),
        ("LN", 8, (1, 2), (32, 32), True),
        ("", 8, (1, 2), (32, 32), True),
    ],
)
def test_one_image_trains_unless_a_norm_sees_one_value(
    norm: str, conv_dim: int, pool_scales: tuple, size: tuple[int, int], fits: bool
) -> None:
    module = head(norm=norm, conv_dim=conv_dim, pool_scales=pool_scales).train()
    maps, targets = features(1, *size), labels(1, *size)
    if fits:
        assert all(torch.isfinite(loss) for loss in module(maps, targets)[1].values())
    else:
        with pytest.raises(InputError, match=r"one image.*SOLVER\.IMS_PER_BATCH"):
            module(maps, targets)


def test_group_norm_needs_channels_for_its_groups() -> None:
    with pytest.raises(InputError, match="CONVS_DIM. is 48, expected a multiple of 32"):
        head(norm="GN", conv_dim=48)
