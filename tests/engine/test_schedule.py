"""The schedule of the depth recipe, and Detectron2's own through the same function."""

import copy

import hypothesis.strategies as st
import pytest
import torch
from detectron2.solver.lr_scheduler import LRMultiplier
from helpers import smallest_cfg, smallest_depth_cfg
from hypothesis import given
from torch import nn

from metaprompt_d2.engine import RiseAndFallPoly, WarmupPoly, build_lr_scheduler
from metaprompt_d2.engine.schedule import rise_and_fall
from metaprompt_d2.utils.errors import InputError


def sgd(*rates: float) -> torch.optim.Optimizer:
    return torch.optim.SGD({"params": [nn.Parameter(torch.zeros(1))], "lr": lr} for lr in rates)


def run(scheduler, optimizer: torch.optim.Optimizer, count: int) -> list[list[float]]:
    """Learning rates of `count` updates."""
    rates = []
    for _ in range(count):
        rates.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize(
    ("update", "expected"),
    # the official recipe, 1009 iterations an epoch
    [
        (1, 3.0099e-5),
        (1009, 8.022e-5),
        (6 * 1009, 2.819e-4),
        (12 * 1009, 5e-4),
        (13 * 1009, 4.498e-4),
        (18 * 1009, 2.481e-4),
        (24 * 1009, 3e-5),
        (25 * 1009, 3e-5),
    ],
)
def test_rates_of_nyu_depth_are_the_published_ones(update: int, expected: float) -> None:
    share = rise_and_fall(update, peak=12 * 1009, power=0.9, floor=0.06)
    assert share * 5e-4 == pytest.approx(expected, rel=5e-4)


@given(st.integers(1, 300), st.integers(1, 100), st.floats(0.2, 3), st.floats(0, 1))
def test_rates_stay_between_the_floor_and_one_and_peak_once(
    update: int, peak: int, power: float, floor: float
) -> None:
    here, before = (
        rise_and_fall(u, peak=peak, power=power, floor=floor) for u in (update, update - 1)
    )
    assert floor - 1e-12 <= here <= 1 + 1e-12
    assert (here >= before - 1e-12) if update <= peak else (here <= before + 1e-12)


def test_the_peak_is_a_share_of_the_iterations_and_groups_keep_their_ratio() -> None:
    cfg = smallest_depth_cfg({"SOLVER.MAX_ITER": 25, "SOLVER.BASE_LR": 5e-4})
    optimizer = sgd(5e-4, 5e-6)
    rates = run(build_lr_scheduler(cfg, optimizer), optimizer, 25)
    first, second = zip(*rates, strict=True)
    assert first.index(max(first)) == 11
    assert max(first) == pytest.approx(5e-4)
    assert first[-1] == pytest.approx(3e-5)
    assert second == pytest.approx([rate / 100 for rate in first])


def test_by_default_the_peak_is_in_the_middle() -> None:
    cfg = smallest_cfg({"SOLVER.LR_SCHEDULER_NAME": "RiseAndFallPolyLR", "SOLVER.MAX_ITER": 8})
    optimizer = sgd(1.0)
    rates = [rate for (rate,) in run(build_lr_scheduler(cfg, optimizer), optimizer, 8)]
    assert rates == pytest.approx([0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25, 0])


def test_a_resumed_schedule_continues() -> None:
    cfg = smallest_depth_cfg({"SOLVER.MAX_ITER": 20})
    optimizer = sgd(1.0)
    scheduler = build_lr_scheduler(cfg, optimizer)
    run(scheduler, optimizer, 7)
    state = copy.deepcopy((scheduler.state_dict(), optimizer.state_dict()))
    expected = run(scheduler, optimizer, 10)
    resumed_optimizer = sgd(1.0)
    resumed = build_lr_scheduler(cfg, resumed_optimizer)
    resumed.load_state_dict(state[0])
    resumed_optimizer.load_state_dict(state[1])
    assert run(resumed, resumed_optimizer, 10) == expected


def test_one_iteration_is_enough() -> None:
    optimizer = sgd(1.0)
    build_lr_scheduler(smallest_depth_cfg({"SOLVER.MAX_ITER": 1}), optimizer)
    assert optimizer.param_groups[0]["lr"] == 1


def test_detectron2s_schedules_are_available() -> None:
    cfg = smallest_cfg({"SOLVER.LR_SCHEDULER_NAME": "WarmupCosineLR"})
    assert isinstance(build_lr_scheduler(cfg, sgd(1.0)), LRMultiplier)


@pytest.mark.parametrize(
    ("argument", "value"), [("peak_at", 0.0), ("peak_at", 1.5), ("floor", -0.1), ("floor", 2.0)]
)
def test_impossible_schedules_are_refused(argument: str, value: float) -> None:
    arguments = {"peak_at": 0.5, "power": 0.9, "floor": 0.06, "num_updates": 8}
    with pytest.raises(InputError, match=f"{argument} is {value}, expected"):
        RiseAndFallPoly(**arguments | {argument: value})


def test_the_lazy_warm_up_has_the_rates_of_deeplabs_schedule() -> None:
    keys = {"MAX_ITER": 20, "WARMUP_ITERS": 5, "WARMUP_FACTOR": 0.1, "POLY_LR_POWER": 0.9}
    cfg = smallest_cfg({f"SOLVER.{key}": value for key, value in keys.items()})
    assert cfg.SOLVER.LR_SCHEDULER_NAME == "WarmupPolyLR"
    optimizer = sgd(1.0)
    rates = [rate for (rate,) in run(build_lr_scheduler(cfg, optimizer), optimizer, 20)]
    multiplier = WarmupPoly(power=0.9, warmup_factor=0.1, warmup_iters=5, num_updates=20)
    assert [multiplier(update / 20) for update in range(20)] == pytest.approx(rates)
