"""`DeconvHeatmapHead`: both wirings, sizes, initialization, loss and refusals."""

import math

import numpy as np
import pytest
import torch
from detectron2.layers import ShapeSpec
from pose_files import smallest_pose_cfg
from torch import nn

from metaprompt_d2.layers import heatmap_cross_entropy, weighted_heatmap_mse
from metaprompt_d2.modeling import HEATMAP_HEADS_REGISTRY, DeconvHeatmapHead, build_heatmap_head
from metaprompt_d2.utils.errors import InputError

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


def test_prompts_that_are_left_over_belong_to_no_keypoint() -> None:
    head = DeconvHeatmapHead(**PROMPTS | {"in_channels": 39, "num_keypoints": 17}).eval()
    assert head.predictor.weight.shape == (17, 2, 1, 1)  # 39 = 17 * 2 + 5
    feature = torch.randn(2, 39, 8, 8)
    heatmaps, _ = head({"p2": feature}, (32, 32))
    weight, own = head.predictor.weight.detach().numpy(), feature[:, :34].numpy()
    expected = np.einsum("jk,njkhw->njhw", weight[..., 0, 0], own.reshape(2, 17, 2, 8, 8))
    np.testing.assert_allclose(heatmaps.detach().numpy(), expected, rtol=1e-5, atol=1e-8)


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


def test_keypoints_weigh_in_the_mean_of_their_squared_errors() -> None:
    weights = [0.0, 2.0, *[0.5] * 15]
    head = DeconvHeatmapHead(**DECONV, keypoint_weights=weights)
    features, truth = {"p4": torch.randn(2, 6, 4, 3)}, torch.rand(2, 17, 16, 12)
    labeled = torch.rand(2, 17).round()
    _, losses = head(features, (64, 48), (truth, labeled))
    errors = (head.layers(features, (64, 48)) - truth).detach().double().numpy() ** 2
    by_keypoint = (errors.mean(axis=(2, 3)) * labeled.numpy()).mean(axis=0)
    expected = (by_keypoint * weights).mean()
    assert losses["loss_heatmap"].item() == pytest.approx(expected, rel=1e-5)


def test_keypoints_weigh_in_the_weighted_mean_of_cross_entropies() -> None:
    features, truth = {"p4": torch.randn(2, 6, 4, 3)}, torch.rand(2, 17, 16, 12)
    labeled = torch.rand(2, 17).round()
    weights = np.array([0.0, 2.0, *[0.5] * 15]) / 100  # only the ratios matter
    head = DeconvHeatmapHead(**DECONV, loss="cross_entropy", keypoint_weights=weights.tolist())
    _, losses = head(features, (64, 48), (truth, labeled))
    logits = head.layers(features, (64, 48)).detach().double().numpy().reshape(2, 17, -1)
    target = truth.double().numpy().reshape(2, 17, -1)
    target /= target.sum(axis=2, keepdims=True)
    entropies = np.log(np.exp(logits).sum(axis=2)) - (target * logits).sum(axis=2)
    expected = np.average(entropies, weights=weights * labeled.numpy())
    assert losses["loss_heatmap"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0] * 16, "keypoint_weights holds 16 numbers for 17 keypoints"),
        ([1.0] * 16 + [-1.0], "expected finite numbers of at least 0"),
        ([1.0] * 16 + [math.inf], "expected finite numbers of at least 0"),
        ([0.0] * 17, "all 0, expected one above 0"),
    ],
)
def test_weights_that_mean_nothing_are_refused(weights: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        DeconvHeatmapHead(**DECONV, keypoint_weights=weights)


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
    overrides = {"MODEL.HEATMAP_HEAD.KEYPOINT_WEIGHTS": (*range(17),)}
    head = build_heatmap_head(smallest_pose_cfg(overrides), SHAPES)
    assert head.keypoint_weights.tolist() == [*range(17)]
    assert "keypoint_weights" not in head.state_dict()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"IN_FEATURE": "p9"}, "IN_FEATURE is 'p9'"),
        ({"IN_FEATURE": "p2"}, "2 doublings of 'p2' .stride 4. give heatmaps of stride 1,"),
        ({"DECONV_KERNELS": (5, 4)}, "kernel sizes"),
        (
            {"WIRING": "prompts", "IN_FEATURE": "p4"},
            "6 channels, .* 17 keypoints need at least one",
        ),
    ],
)
def test_settings_that_mean_nothing_are_refused(overrides: dict, message: str) -> None:
    cfg = smallest_pose_cfg()
    for key, value in overrides.items():
        cfg.merge_from_list([f"MODEL.HEATMAP_HEAD.{key}", value])
    with pytest.raises(ValueError, match=message):
        build_heatmap_head(cfg, SHAPES)
