"""`Mask2FormerHead` against transformers' own Mask2Former, with the same weights."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.structures import BitMasks, Instances
from detectron2.utils.events import EventStorage
from mask2former_models import CHANNELS, head_weights, tiny_config, tiny_head
from torch import nn
from transformers import Mask2FormerForUniversalSegmentation

from metaprompt_d2.modeling import Mask2FormerHead
from metaprompt_d2.utils.errors import InputError


@pytest.fixture
def _double() -> Iterator[None]:
    """Let torch.rand draw float64, which grid_sample needs for masks of float64."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def _features(batch: int = 2, side: int = 16) -> dict[str, torch.Tensor]:
    return {
        f"res{level + 2}": torch.randn(batch, width, side >> level, side >> level)
        for level, width in enumerate(CHANNELS)
    }


def _targets(counts: tuple[int, ...], side: int = 64) -> list[Instances]:
    return [
        Instances(
            (side, side),
            gt_classes=torch.randint(0, 5, (count,)),
            gt_masks=BitMasks(torch.rand(count, side, side) > 0.5),
        )
        for count in counts
    ]


class _Backbone(nn.Module):
    """Gives transformers' model fixed features."""

    def __init__(self, features: dict[str, torch.Tensor]):
        super().__init__()
        self.feature_maps = list(features.values())

    def forward(self, _: torch.Tensor) -> "_Backbone":
        return self


def _transformers_model(features: dict[str, torch.Tensor], head: Mask2FormerHead) -> nn.Module:
    model = Mask2FormerForUniversalSegmentation(tiny_config())
    missing, unexpected = model.load_state_dict(head_weights(head.state_dict()), strict=False)
    assert not unexpected
    assert all(name.startswith("model.pixel_level_module.encoder.") for name in missing)
    model.model.pixel_level_module.encoder = _Backbone(features)
    return model


@pytest.mark.usefixtures("_double")
def test_predictions_equal_those_of_transformers() -> None:
    features, head = _features(), tiny_head().eval()
    expected = _transformers_model(features, head).eval()(torch.zeros(2, 3, 64, 64))
    (classes, masks), losses = head(features)
    torch.testing.assert_close(classes, expected.class_queries_logits, rtol=0, atol=1e-9)
    torch.testing.assert_close(masks, expected.masks_queries_logits, rtol=0, atol=1e-9)
    assert losses == {}


@pytest.mark.usefixtures("_double")
def test_losses_and_gradients_equal_those_of_transformers() -> None:
    features, head, targets = _features(), tiny_head().train(), _targets((3, 2))
    model = _transformers_model(features, head).train()
    torch.manual_seed(1)
    expected = model(
        torch.zeros(2, 3, 64, 64),
        mask_labels=[target.gt_masks.tensor.double() for target in targets],
        class_labels=[target.gt_classes for target in targets],
    ).loss
    torch.manual_seed(1)
    prediction, losses = head(features, targets)
    assert prediction is None
    assert len(losses) == 3 * 3  # before the first of two layers, and after each
    torch.testing.assert_close(sum(losses.values()), expected, rtol=0, atol=1e-9)
    sum(losses.values()).backward()
    expected.backward()
    theirs = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    ours = head_weights({name: p.grad for name, p in head.named_parameters()})
    assert set(ours) == set(theirs)
    for name in ours:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=1e-9)


def test_only_the_last_prediction_has_losses_without_deep_supervision() -> None:
    head = tiny_head(deep_supervision=False).train()
    _, losses = head(_features(), _targets((3, 2)))
    assert set(losses) == {"loss_cross_entropy", "loss_mask", "loss_dice"}


def test_images_without_segments_have_finite_losses_and_gradients() -> None:
    for counts in ((0, 2), (0, 0)):
        head = tiny_head().train()
        _, losses = head(_features(), _targets(counts))
        total = sum(losses.values())
        total.backward()
        assert total.isfinite()
        assert all(p.grad.isfinite().all() for p in head.parameters() if p.grad is not None)
        if counts == (0, 0):
            assert losses["loss_mask"] == losses["loss_dice"] == 0


def test_segments_beyond_the_queries_are_counted_and_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    head = tiny_head().train()  # six queries
    with EventStorage() as storage, caplog.at_level(logging.WARNING):
        head(_features(), _targets((9, 2)))
        assert storage.latest()["segments_without_query"][0] == 3
        head(_features(), _targets((6, 2)))
        assert storage.latest()["segments_without_query"][0] == 0
    assert "has 9 segments, the head 6 queries" in caplog.text


def test_mean_number_of_masks_is_that_of_all_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """With two processes of 5 and 1 segments, each divides by 3."""
    features, head, targets = _features(), tiny_head().train(), _targets((3, 2))
    torch.manual_seed(1)
    _, alone = head(features, targets)
    monkeypatch.setattr("detectron2.utils.comm.get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_reduce", lambda count: count.add_(1))
    torch.manual_seed(1)
    _, shared = head(features, targets)
    for name in ("loss_mask", "loss_dice_0"):
        torch.testing.assert_close(shared[name] * 3, alone[name] * 5)
    torch.testing.assert_close(shared["loss_cross_entropy"], alone["loss_cross_entropy"])


def test_training_mode_leaves_deformable_attention_without_a_wait_for_the_device() -> None:
    head = tiny_head().train()
    assert head.decoders.transformer_module.training
    assert not any(module.training for module in head.decoders.pixel_decoder.encoder.modules())


@pytest.mark.parametrize(
    ("strides", "expected"),
    [((8, 16), "at least 3"), ((4, 8, 32), "each twice"), ((4, 4, 8), "each twice")],
)
def test_features_that_do_not_fit_are_refused(strides: tuple[int, ...], expected: str) -> None:
    shapes = {f"p{i}": ShapeSpec(channels=8, stride=stride) for i, stride in enumerate(strides)}
    with pytest.raises(InputError, match=expected):
        Mask2FormerHead(shapes, num_classes=5)


@pytest.mark.parametrize("sizes", [{"conv_dim": 48}, {"hidden_dim": 34}])
def test_sizes_that_cannot_be_divided_are_refused(sizes: dict[str, int]) -> None:
    (name,) = sizes
    with pytest.raises(InputError, match=f"{name} is"):
        tiny_head(**sizes)
