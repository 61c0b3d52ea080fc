"""The training iteration: accumulation, precision, clipping, the guard against NaN."""

from collections.abc import Iterator

import pytest
import torch
from detectron2.engine import HookBase
from detectron2.utils.events import EventStorage
from torch import Tensor, nn

from metaprompt_d2.engine import NonFiniteLossError, TrainLoop, WeightAverage


class Regression(nn.Module):
    """A line through points, with BatchNorm and dropout on the way."""

    def __init__(self, dropout: float = 0.0, norm: bool = False):
        super().__init__()
        self.norm = nn.BatchNorm1d(4) if norm else nn.Identity()
        self.dropout = nn.Dropout(dropout)
        self.line = nn.Linear(4, 1)
        self.seen_dtype = None

    def forward(self, data: list[dict]) -> dict[str, Tensor]:
        x = torch.stack([item["x"] for item in data])
        y = self.line(self.dropout(self.norm(x)))
        self.seen_dtype = y.dtype
        return {"loss_line": ((y[:, 0].float() - 1) ** 2).mean()}


def samples(count: int) -> list[dict]:
    generator = torch.Generator().manual_seed(1)
    return [
        {"x": torch.randn(4, generator=generator), "file_name": f"image{index}.png"}
        for index in range(count)
    ]


def batches(size: int) -> Iterator[list[dict]]:
    data = samples(8)
    return iter([data[start : start + size] for start in range(0, 8, size)] * 10)


def make_loop(model: nn.Module, batch_size: int = 8, lr: float = 0.1, **options) -> TrainLoop:
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    loop = TrainLoop(model, batches(batch_size), optimizer, seed=3, **options)
    if loop.grad_scaler.is_enabled():
        # The usual 2**16 overflows at first, and the scaler skips such steps.
        loop.grad_scaler.load_state_dict(loop.grad_scaler.state_dict() | {"scale": 8.0})
    return loop


def run(loop: TrainLoop, iterations: int = 1) -> EventStorage:
    with EventStorage() as storage:
        for loop.iter in range(iterations):
            loop.run_step()
    return storage


def test_accumulating_four_batches_equals_one_large_batch() -> None:
    whole, parts = Regression(), Regression()
    storage = run(make_loop(whole, batch_size=8))
    accumulated = run(make_loop(parts, batch_size=2, accumulation_steps=4))
    assert torch.allclose(whole.line.weight, parts.line.weight, atol=1e-6)
    losses = [storage.latest()["total_loss"][0], accumulated.latest()["total_loss"][0]]
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_clipping_an_accumulated_gradient_equals_clipping_a_large_batchs() -> None:
    whole, parts = Regression(), Regression()
    run(make_loop(whole, batch_size=8, max_grad_norm=0.25))
    run(make_loop(parts, batch_size=2, accumulation_steps=4, max_grad_norm=0.25))
    assert torch.allclose(whole.line.weight, parts.line.weight, atol=1e-6)


def test_dropout_depends_on_seed_and_iteration_only() -> None:
    model = Regression(dropout=0.5)
    loop = make_loop(model, lr=0.0)
    first = run(loop, 2).latest()["total_loss"][0]
    torch.rand(17)  # whatever else draws random numbers in between
    again = run(make_loop(model, lr=0.0), 2).latest()["total_loss"][0]
    assert first == again
    loop.seed = 4
    assert run(loop, 2).latest()["total_loss"][0] != first


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_runs_the_model_in_low_precision_and_updates_it(dtype: torch.dtype) -> None:
    reference, model = Regression(), Regression()
    run(make_loop(reference))
    run(make_loop(model, amp_dtype=dtype))
    assert model.seen_dtype == dtype
    assert model.line.weight.dtype == torch.float32
    assert torch.allclose(model.line.weight, reference.line.weight, atol=0.05)


def test_gradient_scaling_survives_a_checkpoint() -> None:
    loop = make_loop(Regression(), amp_dtype=torch.float16)
    run(loop)
    state = loop.state_dict()
    state["grad_scaler"]["scale"] = 128.0
    other = make_loop(Regression(), amp_dtype=torch.float16)
    other.load_state_dict(state)
    assert other.grad_scaler.get_scale() == 128.0


@pytest.mark.parametrize("dtype", [None, torch.float16])
@pytest.mark.parametrize("parts", [1, 4])
def test_the_whole_gradient_is_clipped_to_the_norm(dtype: torch.dtype | None, parts: int) -> None:
    model = Regression()
    options = {"batch_size": 8 // parts, "accumulation_steps": parts}
    loop = make_loop(model, lr=1.0, amp_dtype=dtype, max_grad_norm=0.25, **options)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    run(loop)
    update = torch.cat([(p - b).flatten() for p, b in zip(model.parameters(), before, strict=True)])
    assert update.norm().item() == pytest.approx(0.25, rel=1e-3)


def test_a_nan_loss_names_iteration_and_images_and_leaves_the_model_as_it_was() -> None:
    model = Regression(norm=True)
    loop = make_loop(model)
    run(loop, 2)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    broken = samples(2)
    broken[1]["x"] = torch.full((4,), float("nan"))
    loop._data_loader_iter_obj = iter([broken])
    loop.iter = 2
    with EventStorage(), pytest.raises(NonFiniteLossError, match="iteration 2.*image1.png"):
        loop.run_step()
    floats = {key: value for key, value in before.items() if value.is_floating_point()}
    assert all(torch.equal(model.state_dict()[key], value) for key, value in floats.items())


def test_restoring_statistics_needs_no_new_memory_in_an_iteration(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loop = make_loop(Regression(norm=True))
    places = [buffer.data_ptr() for buffer in loop._kept_buffers]
    monkeypatch.setattr(Tensor, "clone", None)  # calling it would fail
    run(loop, 2)
    assert places
    assert [buffer.data_ptr() for buffer in loop._kept_buffers] == places


def test_hooks_see_the_gradients_once_per_update_before_it() -> None:
    class Reader(HookBase):
        def after_backward(self) -> None:
            line = self.trainer.model.line
            seen.append((line.weight.grad.clone(), line.weight.detach().clone()))

    seen: list[tuple[Tensor, Tensor]] = []
    model = Regression()
    loop = make_loop(model, batch_size=2, lr=0.1, accumulation_steps=4)
    loop.register_hooks([Reader()])
    run(loop, 2)
    assert len(seen) == 2
    for (gradient, before), after in zip(seen, [seen[1][1], model.line.weight], strict=True):
        torch.testing.assert_close(before - 0.1 * gradient, after)


def test_a_nan_in_one_part_of_an_accumulated_batch_stops_the_update() -> None:
    model = Regression()
    loop = make_loop(model, accumulation_steps=2)
    before = model.line.weight.detach().clone()
    broken = samples(1)
    broken[0]["x"] = torch.full((4,), float("inf"))
    loop._data_loader_iter_obj = iter([samples(2), broken])
    loop.iter = 0
    with EventStorage(), pytest.raises(NonFiniteLossError):
        loop.run_step()
    assert torch.equal(model.line.weight, before)


def test_averages_are_updated_once_an_update() -> None:
    model = Regression()
    average = WeightAverage(model, 0.9)
    run(make_loop(model, batch_size=2, accumulation_steps=4, average=average), 3)
    assert average.num_updates == 3
    with average.applied():
        averaged = model.line.weight.clone()
    assert not torch.equal(averaged, model.line.weight)


def test_a_step_that_the_scaler_skips_leaves_weights_and_averages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = Regression()
    average = WeightAverage(model, 0.9)
    loop = make_loop(model, amp_dtype=torch.float16, average=average)
    state = loop.grad_scaler.state_dict()
    loop.grad_scaler.load_state_dict(state | {"scale": 2.0**40})  # overflows float16
    # Whether a step was skipped stands on the device; asking for it would make the host wait.
    monkeypatch.setattr(loop.grad_scaler, "get_scale", None)
    weight = model.line.weight.detach().clone()
    run(loop, 2)
    assert torch.equal(model.line.weight, weight)
    with average.applied():
        assert torch.allclose(model.line.weight, weight, rtol=1e-6)
