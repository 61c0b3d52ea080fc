"""Training loaders give batches in pinned memory, from which copies to a GPU don't block."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers import registered_cityscapes, smallest_cfg
from training_features import SMALL, make_data

from metaprompt_d2.data import build_mapper, build_train_loader

pytestmark = pytest.mark.gpu


def loader_of(data: str, workers: int) -> Iterator[list[dict]]:
    cfg = smallest_cfg(SMALL | {"DATASETS.TRAIN": (data,), "DATALOADER.NUM_WORKERS": workers})
    return iter(build_train_loader(cfg, build_mapper(cfg, is_train=True), seed=0))


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_pinned_where_there_is_a_gpu(
    workers: int, device: torch.device, tmp_path: Path
) -> None:
    with registered_cityscapes(make_data(tmp_path)) as data:
        found = next(loader_of(data, workers))
        expected = next(loader_of(data, 0))
    for item, other in zip(found, expected, strict=True):
        tensors = {name: value for name, value in item.items() if torch.is_tensor(value)}
        assert {"image", "sem_seg"} <= set(tensors)
        for name, value in tensors.items():
            assert value.is_pinned() == (device.type == "cuda"), name
            copied = value.to(device, non_blocking=True)
            assert torch.equal(copied.cpu(), other[name])
