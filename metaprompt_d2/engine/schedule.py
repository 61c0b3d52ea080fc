"""Learning rate schedules."""

import math
from dataclasses import dataclass
from typing import Any

from detectron2.config import CfgNode
from detectron2.projects import deeplab
from detectron2.solver import LRMultiplier
from fvcore.common.param_scheduler import ParamScheduler
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ..utils.errors import InputError, input_errors


def rise_and_fall(update: int, *, peak: int, power: float, floor: float) -> float:
    """Compute the learning rate multiplier of the official depth recipe.

    It rises polynomially from `floor` to 1 at the update `peak`, falls back in the same time, and
    then stays constant (docs/method.md#depth-optimization). Updates are counted from 1.
    """
    progress = update / peak
    if update < peak:
        return (1 - floor) * progress**power + floor
    return max(floor, 1 - (1 - floor) * (progress - 1) ** power)


@dataclass(kw_only=True)
class RiseAndFallPoly(ParamScheduler):
    """`rise_and_fall` as one of fvcore's schedules, which have no polynomial rise.

    Args:
        peak_at: Share of `num_updates` at which the multiplier is 1.
        power: Power of the rise and of the fall.
        floor: Multiplier at the start and at the end.
        num_updates: Number of updates of the training.

    Raises:
        InputError: The peak is outside of the training, or the floor isn't between 0 and 1.
    """

    peak_at: float
    power: float
    floor: float
    num_updates: int

    def __post_init__(self) -> None:
        if not 0 < self.peak_at <= 1:
            raise InputError(f"peak_at is {self.peak_at}, expected more than 0 and at most 1")
        if not 0 <= self.floor <= 1:
            raise InputError(f"floor is {self.floor}, expected 0 to 1")

    def __call__(self, where: float) -> float:
        """Compute the multiplier after a share of the training, from 0 to 1."""
        update = round(where * self.num_updates) + 1
        peak = max(round(self.peak_at * self.num_updates), 1)
        return rise_and_fall(update, peak=peak, power=self.power, floor=self.floor)


@dataclass(kw_only=True)
class WarmupPoly(ParamScheduler):
    """DeepLab's "WarmupPolyLR" as a multiplier, for LazyConfigs.

    The multiplier is (1 - progress) ** power times a factor that rises linearly to 1. Detectron2's
    `WarmupParamScheduler` interpolates instead, so it has other values during the warm-up.

    Args:
        power: Power of the fall.
        warmup_factor: Factor at the start.
        warmup_iters: Number of updates of the warm-up.
        num_updates: Number of updates of the training.
    """

    power: float
    warmup_factor: float
    warmup_iters: int
    num_updates: int

    def __call__(self, where: float) -> float:
        """Compute the multiplier after a share of the training, from 0 to 1."""
        progress = min(where * self.num_updates / self.warmup_iters, 1) if self.warmup_iters else 1
        warmup = self.warmup_factor * (1 - progress) + progress
        return warmup * (1 - where) ** self.power


def build_lr_scheduler(cfg: CfgNode, optimizer: Optimizer) -> LRScheduler:
    """Build the schedule SOLVER.LR_SCHEDULER_NAME: "RiseAndFallPolyLR" or one of Detectron2's.

    With a MAX_ITER of 0 it is one of a longer training, which nothing follows.

    Raises:
        InputError: The name or the values of SOLVER fit no schedule.
    """
    if cfg.SOLVER.MAX_ITER == 0:
        cfg = _with_solver(cfg, MAX_ITER=1000, WARMUP_ITERS=0)
    solver = cfg.SOLVER
    if solver.LR_SCHEDULER_NAME == "WarmupStepWithFixedGammaLR":
        # The same steps by their iterations: fvcore's own class fails at the end of a training.
        parts = solver.NUM_DECAYS + 1
        steps = tuple(math.ceil(solver.MAX_ITER * part / parts) for part in range(1, parts))
        cfg = _with_solver(cfg, LR_SCHEDULER_NAME="WarmupMultiStepLR", STEPS=steps)
    if solver.LR_SCHEDULER_NAME != "RiseAndFallPolyLR":
        with input_errors("SOLVER", AssertionError, ValueError, ZeroDivisionError):
            return deeplab.build_lr_scheduler(cfg, optimizer)
    multiplier = RiseAndFallPoly(
        peak_at=solver.LR_PEAK_AT,
        power=solver.POLY_LR_POWER,
        floor=solver.POLY_LR_CONSTANT_ENDING,
        num_updates=solver.MAX_ITER,
    )
    return LRMultiplier(optimizer, multiplier=multiplier, max_iter=solver.MAX_ITER)


def _with_solver(cfg: CfgNode, **values: Any) -> CfgNode:
    changed = cfg.clone()
    changed.defrost()
    changed.SOLVER.update(values)
    return changed
