"""SyncBN in two processes that share a GPU, each with half of a batch."""

from pathlib import Path

import torch
from detectron2.layers import get_norm
from torch import Tensor, distributed

CHANNELS = 4


def normalize(norm: torch.nn.Module, images: Tensor, weights: Tensor) -> list[Tensor]:
    """Return a norm's output, and the gradient of its input for the weighted sum of the output."""
    images = images.clone().requires_grad_()
    output = norm(images)
    (output * weights).sum().backward()
    return [output.detach(), images.grad]


def normalize_half(rank: int, port: int, folder: Path) -> None:
    """Normalize this process's half of the batch in `batch.pth`.

    NCCL doesn't let two processes share a GPU, gloo does.
    """
    url = f"tcp://127.0.0.1:{port}"
    distributed.init_process_group("gloo", init_method=url, rank=rank, world_size=2)
    images, weights = torch.load(folder / "batch.pth", weights_only=True)
    norm = get_norm("SyncBN", CHANNELS).to(images.device)
    halves = (values.chunk(2)[rank] for values in (images, weights))
    torch.save(normalize(norm, *halves), folder / f"{rank}.pth")
    distributed.destroy_process_group()
