"""`DeconvHeatmapHead`: both wirings, sizes, initialization, loss and refusals."""

import math

import pytest
import torch
from detectron2.layers import ShapeSpec
from pose_files import smallest_pose_cfg
from torch import nn

from metaprompt_d2.layers import heatmap_cross_entropy, weighted_heatmap_mse
from metaprompt_d2.modeling import HEATMAP_HEADS_REGISTRY, DeconvHeatmapHead, build_heatmap_head

SHAPES = {"p2": ShapeSpec(channels=34, stride=4), "p4": ShapeSpec(channels=6, stride=16)}
DECONV = {"in_channels": 6, "in_stride": 16, "num_keypoints": 17, "deconv_dims": (8, 8)}
PROMPTS = {"in_channels": 34, "in_stride": 4, "num_keypoints": 17, "in_feature": "p2"}
PROMPTS["wiring"] = "prompts"


@pytest.mark.parametrize("size", [(256, 192), (384, 288)])
@pytest.mark.parametrize("arguments", [DECONV, PROMPTS])
def test_both_wirings_give_heatmaps_of_a_quarter(arguments: dict, size: tuple) -> None:
    head = DeconvHeatmapHead(**arguments).eval()
    stride = head.in_stride
    feature = torch.randn(2, arguments["in_channels"], size[0] // stride, size[1] // stride)
    heatmaps, losses = head({head.in_feature: feature}, size)
    assert heatmaps.shape == (2, 17, size[0] // 4, size[1] // 4)
    assert losses == {}


def test_a_map_larger_than_its_stride_says_is_resized() -> None:
    head = DeconvHeatmapHead(**PROMPTS).eval()
    heatmaps, _ = head({"p2": torch.randn(1, 34, 96, 80)}, (384, 288))
    assert heatmaps.shape == (1, 17, 96, 72)


def test_a_keypoint_reads_its_own_prompts_alone() -> None:
    head = DeconvHeatmapHead(**PROMPTS).eval()
    nn.init.ones_(head.predictor.weight)
    feature = torch.zeros(1, 34, 4, 4)
    feature[:, 6:8] = torch.tensor([2.0, 3.0]).view(1, 2, 1, 1)
    heatmaps, _ = head({"p2": feature}, (16, 16))
    assert (heatmaps[0, 3] == 5).all()
    assert not heatmaps[0, [0, 1, 2, *range(4, 17)]].any()


def test_the_classic_head_is_vitposes() -> None:
    head = DeconvHeatmapHead(in_channels=640, in_stride=16, num_keypoints=17)
    kinds = [nn.ConvTranspose2d, nn.BatchNorm2d, nn.ReLU]
    assert [type(layer) for layer in head.decoder] == kinds * 2
    deconv = head.decoder[0]
    assert (deconv.kernel_size, deconv.stride, deconv.padding) == ((4, 4), (2, 2), (1, 1))
    assert deconv.bias is None
    assert deconv.weight.std().item() == pytest.approx(0.001, rel=0.02)
    assert head.predictor.weight.shape == (17, 256, 1, 1)
    assert not head.predictor.bias.any()


def test_the_loss_is_on_the_targets_part_of_a_padded_map() -> None:
    head = DeconvHeatmapHead(**DECONV, loss_weight=2.0)
    features = {"p4": torch.randn(2, 6, 4, 4)}
    truth, weights = torch.rand(2, 17, 16, 12), torch.rand(2, 17)
    _, losses = head(features, (64, 64), (truth, weights))
    expected = weighted_heatmap_mse(head.layers(features, (64, 64))[..., :12], truth, weights) * 2
    torch.testing.assert_close(losses["loss_heatmap"], expected)


def test_cross_entropys_heatmaps_are_a_softmax_within_the_crop() -> None:
    head = DeconvHeatmapHead(**DECONV, loss="cross_entropy", heatmap_size=(16, 12), sigma=1.5)
    features = {"p4": torch.randn(2, 6, 4, 4)}
    truth, weights = torch.rand(2, 17, 16, 12), torch.ones(2, 17)
    _, losses = head(features, (64, 64), (truth, weights))
    logits = head.layers(features, (64, 64))[..., :12]
    torch.testing.assert_close(
        losses["loss_heatmap"], heatmap_cross_entropy(logits, truth, weights)
    )
    heatmaps, losses = head.eval()(features, (64, 64))
    assert not losses
    sums = heatmaps.sum(dim=(2, 3))
    torch.testing.assert_close(sums, torch.full((2, 17), 2 * math.pi * 1.5**2))


def test_the_config_chooses_head_and_wiring() -> None:
    head = build_heatmap_head(smallest_pose_cfg(), SHAPES)
    assert isinstance(head, HEATMAP_HEADS_REGISTRY.get("DeconvHeatmapHead"))
    assert len(head.decoder) == 6
    overrides = {"MODEL.HEATMAP_HEAD.WIRING": "prompts", "MODEL.HEATMAP_HEAD.IN_FEATURE": "p2"}
    assert len(build_heatmap_head(smallest_pose_cfg(overrides), SHAPES).decoder) == 0


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"IN_FEATURE": "p9"}, "IN_FEATURE is 'p9'"),
        ({"IN_FEATURE": "p2"}, "2 doublings of 'p2' .stride 4. give heatmaps of stride 1,"),
        ({"DECONV_KERNELS": (5, 4)}, "kernel sizes"),
        ({"WIRING": "prompts", "IN_FEATURE": "p4"}, "6 channels, which 17 keypoints cannot share"),
    ],
)
def test_settings_that_mean_nothing_are_refused(overrides: dict, message: str) -> None:
    cfg = smallest_pose_cfg()
    for key, value in overrides.items():
        cfg.merge_from_list([f"MODEL.HEATMAP_HEAD.{key}", value])
    with pytest.raises(ValueError, match=message):
        build_heatmap_head(cfg, SHAPES)
