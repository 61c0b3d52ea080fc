"""Gradients of the heads under autocast are as near to float32's as rounding their input allows."""

from collections.abc import Callable

import pytest
import torch
from detectron2.layers import ShapeSpec
from torch import Tensor, nn

from metaprompt_d2.modeling import DeconvDepthHead, DeconvHeatmapHead, UPerHead

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
SHAPES = {f"p{level}": ShapeSpec(channels=24, stride=2**level) for level in (2, 3, 4, 5)}
IMAGE = 256  # pixels; where pooling to one pixel averages many
SMALL = 128


def features(names: list[str], image: int) -> dict[str, Tensor]:
    """Maps of two images that resemble one another, as those of a UNet do."""
    maps = {}
    for name in names:
        size = image // SHAPES[name].stride
        common, own = torch.randn(1, 24, size, size), torch.randn(2, 24, size, size)
        maps[name] = (3 + common + 0.1 * own).requires_grad_()
    return maps


def sem_seg(norm: str) -> tuple[nn.Module, list[str], Callable[[nn.Module, dict], dict]]:
    width = 64 if norm == "GN" else 32  # for two channels in a group
    head = UPerHead(SHAPES, num_classes=5, conv_dim=width, dropout=0.0, norm=norm)
    labels = torch.randint(5, (2, IMAGE, IMAGE))
    return head, list(SHAPES), lambda module, maps: module(maps, labels)[1]


def depth() -> tuple[nn.Module, list[str], Callable[[nn.Module, dict], dict]]:
    head = DeconvDepthHead(in_channels=24, conv_dim=24)
    truth = torch.rand(2, SMALL, SMALL) * 9 + 1
    return head, ["p3"], lambda module, maps: module(maps, (SMALL, SMALL), truth)[1]


def pose() -> tuple[nn.Module, list[str], Callable[[nn.Module, dict], dict]]:
    head = DeconvHeatmapHead(in_channels=24, in_stride=16, num_keypoints=17, deconv_dims=(24, 24))
    truth = torch.rand(2, 17, SMALL // 4, SMALL // 4), torch.ones(2, 17)
    return head, ["p4"], lambda module, maps: module(maps, (SMALL, SMALL), truth)[1]


HEADS = {
    "sem_seg, BatchNorm": lambda: sem_seg("BN"),
    "sem_seg, GroupNorm": lambda: sem_seg("GN"),
    "depth": depth,
    "pose": pose,
}


def gradients(
    head: nn.Module, losses: Callable, maps: dict[str, Tensor], dtype: torch.dtype | None
) -> dict[str, Tensor]:
    """Of the maps, which the backbone trains by, and of each part of the head."""
    with torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None):
        loss = sum(losses(head, maps).values())
    scale = 2.0**16 if dtype == torch.float16 else 1.0
    while True:  # as a gradient scaler, which halves its scale after an overflow
        head.zero_grad()
        for value in maps.values():
            value.grad = None
        (loss * scale).backward(retain_graph=True)
        found = {name: value.grad for name, value in maps.items()}
        for name, part in head.named_children():
            if values := [p.grad.flatten() for p in part.parameters()]:
                found[name] = torch.cat(values)
        if all(value.isfinite().all() for value in found.values()):
            return {name: value.double().flatten() / scale for name, value in found.items()}
        scale /= 2


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", HEADS)
def test_gradients_are_as_exact_as_rounding_allows(name: str, dtype: str) -> None:
    torch.manual_seed(0)
    head, names, losses = HEADS[name]()
    head.train()
    maps = features(names, IMAGE if len(names) > 1 else SMALL)
    exact = gradients(head, losses, maps, None)
    half = gradients(head, losses, maps, DTYPES[dtype])
    rounded = {
        key: value.detach().to(DTYPES[dtype]).float().requires_grad_()
        for key, value in maps.items()
    }
    noise = gradients(head, losses, rounded, None)
    unit = torch.finfo(DTYPES[dtype]).eps
    for part, expected in exact.items():
        errors = [((g[part] - expected).norm() / expected.norm()).item() for g in (half, noise)]
        # Between the input and a parameter, values are rounded a few times more, and the loss once.
        assert errors[0] < 3 * errors[1] + 2 * unit, (part, errors)
        # So the norm is right to a quarter, and the cosine above sqrt(1 - 1/16).
        assert errors[0] < 0.25, (part, errors)
        cosine = torch.cosine_similarity(half[part], expected, dim=0).item()
        assert cosine > 0.968, (part, cosine)
        assert 0.75 < (half[part].norm() / expected.norm()).item() < 1.25, part
