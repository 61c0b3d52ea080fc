"""Gradients of whole models under autocast, for every task and part, against those of float32.

Rounding all weights once moves the gradients of float32 by a noise that is measured here. Autocast
rounds the results of layers too, so its error is a few times the noise. What computes in half
precision but needs float32 has an error far above it. BatchNorm needs larger images than these:
`tests/modeling/heads/test_build_gradients.py` has it, at sizes where norms over few values fail.
"""

import functools

import pytest
import torch
from detectron2.modeling import build_model
from helpers import NUM_CLASSES, SMALLEST_DEPTH, smallest_cfg
from torch import Tensor, nn
from torch.nn import functional as F

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
TASKS = {
    "sem_seg": {"MODEL.SEM_SEG_HEAD.NORM": "GN", "MODEL.SEM_SEG_HEAD.CONVS_DIM": 64},
    "depth": SMALLEST_DEPTH,
    "pose": {
        "MODEL.META_ARCHITECTURE": "TopDownPoseEstimator",
        "INPUT.PERSON_CROP.SIZE": (64, 64),
    },
}
SIZE = 64


def smooth_image() -> Tensor:
    """An image in [0, 1] whose pixels resemble their neighbors."""
    return F.interpolate(torch.rand(1, 3, 4, 4), size=(SIZE, SIZE), mode="bilinear")[0]


def inputs(task: str) -> list[dict]:
    targets = {
        "sem_seg": lambda: {"sem_seg": torch.randint(NUM_CLASSES, (SIZE, SIZE))},
        "depth": lambda: {"depth": 1 + 9 * torch.rand(SIZE, SIZE)},
        "pose": lambda: {
            "heatmaps": torch.rand(17, SIZE // 4, SIZE // 4),
            "keypoint_weights": torch.ones(17),
        },
    }
    return [{"image": smooth_image(), **targets[task]()} for _ in range(2)]


@functools.cache
def gradients(task: str, dtype: torch.dtype | None, rounded_to: torch.dtype | None) -> dict:
    """The gradient of each part of a task's model as one vector."""
    torch.manual_seed(0)
    model = build_model(smallest_cfg(TASKS[task])).train()
    if rounded_to is not None:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.copy_(parameter.to(rounded_to))
    torch.manual_seed(1)
    batch = inputs(task)
    with torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None):
        loss = sum(model(batch).values())
    scale = 2.0**16 if dtype == torch.float16 else 1.0
    while True:  # as a gradient scaler, which halves its scale after an overflow
        model.zero_grad()
        (loss * scale).backward(retain_graph=True)
        found = by_part(model)
        if all(gradient.isfinite().all() for gradient in found.values()):
            return {part: gradient / scale for part, gradient in found.items()}
        scale /= 2


def by_part(model: nn.Module) -> dict[str, Tensor]:
    backbone = model.backbone
    parts = {
        "UNet": backbone.refinement.unet,
        "prompts": backbone.refinement.meta_prompts,
        "step embeddings": backbone.refinement.step_embeddings,
        "rearrangement": backbone.rearrangement,
        "head": next(part for name, part in model.named_children() if name.endswith("head")),
    }
    found = {}
    for name, part in parts.items():
        values = [p.grad for p in part.parameters() if p.grad is not None]
        found[name] = torch.cat([value.double().flatten() for value in values])
    return found


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("task", TASKS)
def test_gradients_are_as_exact_as_rounding_allows(task: str, dtype: str) -> None:
    exact = gradients(task, None, None)
    half = gradients(task, DTYPES[dtype], None)
    noise = gradients(task, None, DTYPES[dtype])
    unit = torch.finfo(DTYPES[dtype]).eps
    for part, expected in exact.items():
        error, bound = ((g[part] - expected).norm() / expected.norm() for g in (half, noise))
        assert 0 < error < 6 * bound + 2 * unit, (part, error, bound)
        assert torch.cosine_similarity(half[part], expected, dim=0) > 0.7, part
        assert 0.7 < half[part].norm() / expected.norm() < 1.4, part
