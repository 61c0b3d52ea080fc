"""A training iteration on a GPU, as fake tensors: the host asks the device for no value.

Fake tensors have no values, so whatever needs one (`item`, `nonzero`, a boolean mask as an index)
raises an error.
"""

from collections.abc import Callable
from typing import Any
from unittest import mock

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.structures import ImageList
from helpers import TWO_LEVELS, smallest_cfg, smallest_depth_cfg
from pose_files import smallest_pose_cfg
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from metaprompt_d2.engine import TrainLoop, WeightAverage, build_optimizer
from metaprompt_d2.layers import silog_loss

GPU = torch.device("cuda")


class Transfers(TorchDispatchMode):
    """Notes what is copied from the host to the device: the tensor, and whether the host waits."""

    def __init__(self):
        super().__init__()
        self.seen: list[tuple[Tensor, bool]] = []

    def __torch_dispatch__(
        self, func: Callable, types: tuple, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is torch.ops.aten._to_copy.default:
            target = kwargs.get("device") or args[0].device
            if (args[0].device.type, target.type) == ("cpu", "cuda"):
                self.seen.append((args[0], not kwargs.get("non_blocking", False)))
        return func(*args, **kwargs)


def inputs(task: str) -> list[dict]:
    """Two samples as a mapper gives them, on the host."""
    truth = {
        "sem_seg": lambda: {"sem_seg": torch.zeros(64, 64, dtype=torch.int64)},
        "depth": lambda: {"depth": torch.zeros(64, 64)},
        "pose": lambda: {"heatmaps": torch.zeros(17, 16, 16), "keypoint_weights": torch.zeros(17)},
    }
    return [{"image": torch.zeros(3, 64, 64, dtype=torch.uint8), **truth[task]()} for _ in range(2)]


CONFIGS = {
    "sem_seg": lambda overrides: smallest_cfg(TWO_LEVELS | overrides),
    "depth": lambda overrides: smallest_depth_cfg(TWO_LEVELS | overrides),
    "pose": lambda overrides: smallest_pose_cfg({"INPUT.PERSON_CROP.SIZE": (64, 64)} | overrides),
}


def stacked(tensors: list[Tensor], *_: Any, **__: Any) -> ImageList:
    """Detectron2's batch of images of one size, which computes with sizes on the host."""
    return ImageList(torch.stack(tensors), [tuple(tensor.shape[-2:]) for tensor in tensors])


@pytest.mark.parametrize("task", CONFIGS)
def test_the_host_asks_the_device_for_nothing_and_no_copy_blocks(task: str) -> None:
    cfg = CONFIGS[task]({"MODEL.DEVICE": "meta"})
    with torch.device("meta"):
        model = build_model(cfg)
    with (
        FakeTensorMode(allow_non_fake_inputs=True),
        mock.patch.object(ImageList, "from_tensors", stacked),
        Transfers() as transfers,
    ):
        model = model.to_empty(device=GPU).train()
        average = WeightAverage(model, 0.9)
        optimizer = build_optimizer(cfg, model)
        loop = TrainLoop(model, [], optimizer, seed=0, max_grad_norm=1.0, average=average)
        batch = inputs(task)
        losses = model(batch)
        for parameter in model.parameters():  # a backward pass wants a real device
            parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
        loop._update()
    assert all(loss.device.type == "cuda" for loss in losses.values())
    given = {id(value) for item in batch for value in item.values()}
    assert {id(tensor) for tensor, _ in transfers.seen} >= given
    # Only the batch, which the loader pins, is copied without waiting.
    waiting = [t.shape for t, waits in transfers.seen if waits or id(t) not in given]
    assert not waiting


def test_what_needs_a_value_would_be_seen() -> None:
    with FakeTensorMode():
        depth = torch.ones(4, device=GPU)
        silog_loss(depth, depth)
        with pytest.raises(DataDependentOutputException):
            silog_loss(depth, depth).item()
