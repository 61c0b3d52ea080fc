"""Processes on a GPU: NCCL with one of them, and SyncBN with two."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from detectron2.layers import get_norm
from mini_training import free_port
from synchronized_norms import CHANNELS, normalize, normalize_half
from task_loops import run, training_loop
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

pytestmark = pytest.mark.gpu


@pytest.fixture
def _process_group(device: torch.device) -> Iterator[None]:
    backend = "nccl" if device.type == "cuda" else "gloo"
    url = f"tcp://127.0.0.1:{free_port()}"
    distributed.init_process_group(backend, init_method=url, rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


@pytest.mark.usefixtures("_process_group")
@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_one_process_of_ddp_trains_as_none(dtype: torch.dtype | None, device: torch.device) -> None:
    alone, wrapped = (
        training_loop("sem_seg", device, dtype=dtype, accumulation_steps=2) for _ in range(2)
    )
    devices = [device] if device.type == "cuda" else None
    wrapped.model = DistributedDataParallel(wrapped.model, device_ids=devices)
    assert run(wrapped, 2) == pytest.approx(run(alone, 2), rel=1e-3)


@pytest.mark.usefixtures("_process_group")
def test_collectives_of_one_process_change_nothing(device: torch.device) -> None:
    values = torch.arange(5.0, device=device)
    summed, gathered = values.clone(), torch.empty_like(values)
    distributed.all_reduce(summed)
    distributed.all_gather([gathered], values)
    assert summed.tolist() == gathered.tolist() == values.tolist()


def test_two_processes_normalize_as_one(gpu: torch.device, tmp_path: Path) -> None:
    images, weights = (torch.randn(4, CHANNELS, 6, 6, device=gpu) for _ in range(2))
    torch.save((images, weights), tmp_path / "batch.pth")
    torch.multiprocessing.spawn(normalize_half, (free_port(), tmp_path), nprocs=2)
    halves = [torch.load(tmp_path / f"{rank}.pth", weights_only=True) for rank in range(2)]
    expected = normalize(get_norm("BN", CHANNELS).to(gpu), images, weights)
    for parts, whole in zip(zip(*halves, strict=True), expected, strict=True):
        torch.testing.assert_close(torch.cat(parts), whole, rtol=1e-4, atol=1e-5)
