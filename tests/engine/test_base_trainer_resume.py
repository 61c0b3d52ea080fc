"""A resumed training has the rates of its own config, whatever the checkpoint was trained with."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.solver import LRMultiplier
from tiny_training import Lines, TinyTrainer, tiny_config
from torch import Tensor
from training_features import assert_equal

from metaprompt_d2.engine import RiseAndFallPoly, WarmupPoly, build_lr_scheduler
from metaprompt_d2.utils.errors import InputError


def lazy_schedule(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> LRMultiplier:
    solver = cfg.SOLVER
    if solver.LR_SCHEDULER_NAME == "WarmupPolyLR":
        multiplier = WarmupPoly(
            power=solver.POLY_LR_POWER,
            warmup_factor=solver.WARMUP_FACTOR,
            warmup_iters=solver.WARMUP_ITERS,
            num_updates=solver.MAX_ITER,
        )
    else:
        multiplier = RiseAndFallPoly(
            peak_at=solver.LR_PEAK_AT,
            power=solver.POLY_LR_POWER,
            floor=solver.POLY_LR_CONSTANT_ENDING,
            num_updates=solver.MAX_ITER,
        )
    return LRMultiplier(optimizer, multiplier, max(solver.MAX_ITER, 1))


# What each schedule should give, written down here once more.


def warm_up(solver: CfgNode, iteration: int) -> float:
    progress = min(iteration / solver.WARMUP_ITERS, 1) if solver.WARMUP_ITERS else 1
    return solver.WARMUP_FACTOR * (1 - progress) + progress


def poly(solver: CfgNode, iteration: int) -> float:
    power = (1 - iteration / solver.MAX_ITER) ** solver.POLY_LR_POWER
    if iteration >= solver.WARMUP_ITERS:
        return max(power, solver.POLY_LR_CONSTANT_ENDING)
    return warm_up(solver, iteration) * power


def poly_without_ending(solver: CfgNode, iteration: int) -> float:
    power = (1 - iteration / solver.MAX_ITER) ** solver.POLY_LR_POWER
    return warm_up(solver, iteration) * power


def to_value_after_warm_up(
    value: Callable[[CfgNode, int], float],
) -> Callable[[CfgNode, int], float]:
    """Detectron2's warm-up: a line from a share of the first value to the value after it."""

    def multiplier(solver: CfgNode, iteration: int) -> float:
        length = solver.WARMUP_ITERS
        if iteration >= length:
            return value(solver, iteration)
        start, end = solver.WARMUP_FACTOR * value(solver, 0), value(solver, length)
        return start + (end - start) * iteration / length

    return multiplier


def steps(solver: CfgNode, iteration: int) -> float:
    return solver.GAMMA ** sum(
        iteration >= step for step in solver.STEPS if step <= solver.MAX_ITER
    )


def cosine(solver: CfgNode, iteration: int) -> float:
    end = solver.BASE_LR_END / solver.BASE_LR
    return end + (1 - end) * (1 + math.cos(math.pi * iteration / solver.MAX_ITER)) / 2


def fixed_gamma(solver: CfgNode, iteration: int) -> float:
    return solver.GAMMA ** (iteration * (solver.NUM_DECAYS + 1) // solver.MAX_ITER)


def rise_and_fall(solver: CfgNode, iteration: int) -> float:
    peak = max(round(solver.LR_PEAK_AT * solver.MAX_ITER), 1)
    floor, progress = solver.POLY_LR_CONSTANT_ENDING, (iteration + 1) / peak
    if progress < 1:
        return floor + (1 - floor) * progress**solver.POLY_LR_POWER
    return max(floor, 1 - (1 - floor) * (progress - 1) ** solver.POLY_LR_POWER)


SCHEDULES = {
    ("WarmupPolyLR", False): poly,
    ("WarmupMultiStepLR", False): to_value_after_warm_up(steps),
    ("WarmupCosineLR", False): to_value_after_warm_up(cosine),
    ("WarmupStepWithFixedGammaLR", False): to_value_after_warm_up(fixed_gamma),
    ("RiseAndFallPolyLR", False): rise_and_fall,
    ("WarmupPolyLR", True): poly_without_ending,
    ("RiseAndFallPolyLR", True): rise_and_fall,
}

# The first is the unchanged config.
CHANGES = [
    {},
    {"SOLVER.MAX_ITER": 13},
    {"SOLVER.MAX_ITER": 5},
    {"SOLVER.BASE_LR": 0.003},
    {"SOLVER.WEIGHT_DECAY": 0.5},
    {"SOLVER.WARMUP_ITERS": 6},
    {"SOLVER.WARMUP_ITERS": 0},
    {"SOLVER.STEPS": (5,), "SOLVER.GAMMA": 0.5, "SOLVER.NUM_DECAYS": 1},
    {"SOLVER.POLY_LR_POWER": 2.5, "SOLVER.LR_PEAK_AT": 0.9, "SOLVER.BASE_LR_END": 0.002},
    {"SOLVER.PARAM_RULES": [[r"second", 0.2, 0.0]]},  # groups of the same sizes
    {"SOLVER.PARAM_RULES": [[r"second", 0.2, 0.0], [r"third", 0.3, 2.0]]},
    {"SOLVER.DECAY_VECTORS": False},
]


@pytest.mark.parametrize(("name", "lazy"), SCHEDULES)
def test_every_rate_is_that_of_the_config_at_hand(name: str, lazy: bool, tmp_path: Path) -> None:
    keys = {"SOLVER.LR_SCHEDULER_NAME": name}
    multiplier = SCHEDULES[name, lazy]
    schedule = lazy_schedule if lazy else build_lr_scheduler
    first = TinyTrainer(tiny_config(tmp_path, keys), schedule=schedule)
    first.resume_or_load(resume=False)
    first.train()
    for change in CHANGES:
        (tmp_path / "last_checkpoint").write_text("model_0000003.pth")
        cfg = tiny_config(tmp_path, keys | change)
        resumed = TinyTrainer(cfg, schedule=schedule)
        resumed.resume_or_load(resume=True)
        resumed.train()
        assert list(resumed.seen) == list(range(4, cfg.SOLVER.MAX_ITER))
        for iteration, groups in resumed.seen.items():
            for parameter, group in groups.items():
                of_rules = (r[1:] for r in cfg.SOLVER.PARAM_RULES if r[0] in parameter)
                lr, decay = next(of_rules, (1.0, 1.0))
                if not cfg.SOLVER.DECAY_VECTORS and parameter.endswith("bias"):
                    decay = 0.0
                expected = cfg.SOLVER.BASE_LR * lr * multiplier(cfg.SOLVER, iteration)
                case = (change, iteration, parameter)
                assert group["lr"] == pytest.approx(expected, rel=1e-9), case
                assert group["weight_decay"] == cfg.SOLVER.WEIGHT_DECAY * decay, case
        if not change:
            assert_equal(resumed.model.state_dict(), first.model.state_dict())
            assert_equal(resumed.state_dict(), first.state_dict())
            assert resumed.seen.items() <= first.seen.items()


def moments(training: TinyTrainer) -> dict[str, Tensor]:
    names = {id(p): name for name, p in training.model.named_parameters()}
    return {names[id(p)]: state["exp_avg"] for p, state in training.optimizer.state.items()}


def checkpoint(folder: Path, keys: dict | None = None) -> TinyTrainer:
    training = TinyTrainer(tiny_config(folder, {"SOLVER.MAX_ITER": 4} | (keys or {})))
    training.train()
    return training


def test_moments_follow_their_parameters_into_other_groups(tmp_path: Path) -> None:
    expected = moments(checkpoint(tmp_path))
    for rules in ([], [["second", 2.0, 1.0]], [["bias", 1.0, 0.0], ["second", 0.5, 1.0]]):
        resumed = TinyTrainer(tiny_config(tmp_path, {"SOLVER.PARAM_RULES": rules}))
        resumed.resume_or_load(resume=True)
        assert_equal(dict(sorted(moments(resumed).items())), dict(sorted(expected.items())))


def test_betas_are_those_of_the_optimizer_at_hand(tmp_path: Path) -> None:
    checkpoint(tmp_path)
    resumed = TinyTrainer(tiny_config(tmp_path, {}))
    for group in resumed.optimizer.param_groups:
        group["betas"] = (0.5, 0.6)
    resumed.resume_or_load(resume=True)
    resumed.train()
    assert {group["betas"] for groups in resumed.seen.values() for group in groups.values()} == {
        (0.5, 0.6)
    }


def test_a_parameter_that_was_frozen_before_starts_without_moments(tmp_path: Path) -> None:
    class Frozen(Lines):
        def __init__(self) -> None:
            super().__init__()
            self.second.requires_grad_(False)

    TinyTrainer(tiny_config(tmp_path, {"SOLVER.MAX_ITER": 4}), kind=Frozen).train()
    resumed = TinyTrainer(tiny_config(tmp_path, {}))
    resumed.resume_or_load(resume=True)
    assert {name.split(".")[0] for name in moments(resumed)} == {"first", "third"}
    resumed.train()


def former(folder: Path) -> None:
    """Take what checkpoints did not hold once out of the last one."""
    file = folder / "model_final.pth"
    content = torch.load(file, weights_only=True)
    del content["trainer"]["parameter_names"]
    torch.save(content, file)


def test_former_checkpoints_give_their_moments_and_not_their_rates(tmp_path: Path) -> None:
    expected = moments(checkpoint(tmp_path))
    former(tmp_path)
    resumed = TinyTrainer(tiny_config(tmp_path, {"SOLVER.BASE_LR": 0.5, "SOLVER.WARMUP_ITERS": 0}))
    resumed.resume_or_load(resume=True)
    assert_equal(moments(resumed), expected)
    resumed.train()
    assert resumed.seen[4]["second.bias"]["lr"] == pytest.approx(0.5 * 0.5**0.9)


def test_former_checkpoints_of_other_groups_are_refused(tmp_path: Path) -> None:
    checkpoint(tmp_path)
    former(tmp_path)
    rules = [["third", 1.0, 0.0], ["second.bias", 1.0, 0.1]]
    resumed = TinyTrainer(tiny_config(tmp_path, {"SOLVER.PARAM_RULES": rules}))
    with pytest.raises(InputError, match=r"SOLVER\.PARAM_RULES"):
        resumed.resume_or_load(resume=True)


def test_fewer_iterations_than_are_done_are_refused(tmp_path: Path) -> None:
    checkpoint(tmp_path)
    with pytest.raises(InputError, match=r"finished 4 iterations.*SOLVER\.MAX_ITER .* 3"):
        TinyTrainer(tiny_config(tmp_path, {"SOLVER.MAX_ITER": 3})).resume_or_load(resume=True)
    done = TinyTrainer(tiny_config(tmp_path, {"SOLVER.MAX_ITER": 4}))
    done.resume_or_load(resume=True)
    done.train()
    assert not done.seen


@pytest.mark.parametrize(("name", "lazy"), SCHEDULES)
def test_a_schedule_of_no_iterations_is_built(name: str, lazy: bool, tmp_path: Path) -> None:
    keys = {"SOLVER.LR_SCHEDULER_NAME": name, "SOLVER.MAX_ITER": 0}
    schedule = lazy_schedule if lazy else build_lr_scheduler
    assert not TinyTrainer(tiny_config(tmp_path, keys), schedule=schedule).seen
