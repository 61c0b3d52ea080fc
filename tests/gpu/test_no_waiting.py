"""In a training iteration, the host never waits for the GPU.

`tests/engine/test_train_loop_no_waiting.py` tests the same with fake tensors. Universal
segmentation isn't tested: its matcher is scipy's and needs the costs on the host.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from task_loops import run, training_loop

pytestmark = pytest.mark.gpu


@contextmanager
def waiting_refused() -> Iterator[None]:
    """Let every operation that waits for the GPU raise an error."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("task", ["sem_seg", "depth", "pose"])
def test_the_host_never_waits(task: str, dtype: torch.dtype | None, gpu: torch.device) -> None:
    options = {"accumulation_steps": 2, "max_grad_norm": 1.0, "averages": True}
    loop = training_loop(task, gpu, dtype=dtype, **options)
    run(loop, 2)  # creates the optimizer's state
    with waiting_refused():
        (loss,) = run(loop)
    assert math.isfinite(loss) and loop.iter == 3


def test_waiting_would_be_seen(gpu: torch.device) -> None:
    value = torch.ones(1, device=gpu)
    with waiting_refused(), pytest.raises(RuntimeError, match="synchronizing"):
        value.item()
