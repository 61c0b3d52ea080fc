"""Training iterations of all tasks on a GPU: precision, loss scaling, accumulation and clipping."""

import math

import pytest
import torch
from task_loops import TASKS, run, training_loop
from torch import Tensor, nn
from training_features import COMBINATIONS, make_data, train_twice

pytestmark = pytest.mark.gpu


def values(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters() if p.requires_grad])


@pytest.mark.parametrize("dtype", [None, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("task", TASKS)
def test_every_task_trains_in_every_precision(
    task: str, dtype: torch.dtype | None, device: torch.device
) -> None:
    exact = run(training_loop(task, device))[0]
    loop = training_loop(task, device, dtype=dtype)
    before = {p: p.detach().clone() for p in loop.model.parameters()}
    losses = run(loop, 3)
    assert losses[0] == pytest.approx(exact, rel=1e-5 if dtype is None else 0.1)
    assert all(map(math.isfinite, losses))
    assert losses[1] != losses[0]
    moved = torch.cat([(p != before[p]).flatten() for p in loop.optimizer.state])  # with gradients
    assert moved.float().mean() > 0.6  # on maps of one pixel, only a kernel's center has gradients


def change_of(device: torch.device, **options) -> Tensor:
    """Run one step of plain gradient descent in float16; returns the change of the weights."""
    loop = training_loop("sem_seg", device, dtype=torch.float16, **options)
    loop.optimizer = torch.optim.SGD([p for p in loop.model.parameters() if p.requires_grad], lr=1)
    before = values(loop.model)
    run(loop)
    return values(loop.model) - before


def test_scaled_gradients_are_clipped_by_their_true_norm(device: torch.device) -> None:
    assert change_of(device).norm() > 0.02
    change = change_of(device, max_grad_norm=0.01)
    assert change.norm().item() == pytest.approx(0.01, rel=1e-2)


def test_equal_parts_of_a_batch_accumulate_to_their_mean(device: torch.device) -> None:
    whole = change_of(device, max_grad_norm=0.01)
    parts = change_of(device, max_grad_norm=0.01, accumulation_steps=2)
    assert (parts - whole).norm() < 0.05 * whole.norm()


def test_a_step_that_overflows_is_skipped_and_halves_the_scale(device: torch.device) -> None:
    loop = training_loop("sem_seg", device, dtype=torch.float16, scale=2.0**40)
    before = values(loop.model)
    run(loop)
    assert torch.equal(values(loop.model), before)
    assert loop.grad_scaler.get_scale() == 2.0**39


@pytest.mark.parametrize("features", COMBINATIONS[:3], ids=lambda names: names[0] + ", " + names[1])
def test_a_resumed_training_has_the_same_losses(
    features: tuple[str, ...], device: torch.device, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("training")
    data = make_data(folder / "data")
    whole, resumed = train_twice(features, data, folder, {"MODEL.DEVICE": str(device)})
    # The second iteration starts with the weights of the same checkpoint.
    (expected, _), (loss, _) = (t.storage.latest()["total_loss"] for t in (whole, resumed))
    assert loss == pytest.approx(expected, rel=1e-5)
    assert whole.grad_scaler.get_scale() == resumed.grad_scaler.get_scale()
