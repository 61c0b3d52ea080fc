"""Learning rates over the iterations."""

import torch
from detectron2.config import CfgNode
from detectron2.projects import deeplab
from detectron2.solver import LRMultiplier
from fvcore.common.param_scheduler import ParamScheduler
from torch.optim.lr_scheduler import LRScheduler

from ..utils.errors import InputError, input_errors

__all__ = ["RiseAndFallPoly", "WarmupPoly", "build_lr_scheduler", "rise_and_fall"]


def rise_and_fall(update: int, *, peak: int, power: float, floor: float) -> float:
    """Share of the base learning rate at an update of the official depth recipe.

    Polynomially up from the floor to 1, down again in the same time, and constant from then on
    (method section 2.6).

    Args:
        update: counted from 1.
        peak: the update at which it is 1.
        power: of the rise and of the fall.
        floor: share below which it doesn't fall.
    """
    progress = update / peak
    if update < peak:
        return (1 - floor) * progress**power + floor
    return max(floor, 1 - (1 - floor) * (progress - 1) ** power)


class RiseAndFallPoly(ParamScheduler):
    """`rise_and_fall` as a multiplier of the learning rate, fvcore's form of a schedule."""

    def __init__(self, *, peak_at: float, power: float, floor: float, num_updates: int):
        """
        Args:
            peak_at: share of `num_updates` at which it is 1.
            power, floor: as in `rise_and_fall`.
            num_updates: of the training.

        Raises:
            InputError: a peak outside the training or a floor above the base rate.
        """
        if not 0 < peak_at <= 1:
            raise InputError(f"SOLVER.LR_PEAK_AT is {peak_at}, expected a share of MAX_ITER")
        if not 0 <= floor <= 1:
            raise InputError(f"SOLVER.POLY_LR_CONSTANT_ENDING is {floor}, expected 0 to 1")
        self.peak = max(round(peak_at * num_updates), 1)
        self.power = power
        self.floor = floor
        self.num_updates = num_updates

    def __call__(self, where: float) -> float:
        """
        Args:
            where: finished share of the training.
        """
        update = round(where * self.num_updates) + 1
        return rise_and_fall(update, peak=self.peak, power=self.power, floor=self.floor)


class WarmupPoly(ParamScheduler):
    """The values of DeepLab's "WarmupPolyLR" as a multiplier, for LazyConfigs.

    (1 - progress) ** power times a factor that rises linearly to 1 in the first updates.
    """

    def __init__(self, *, power: float, warmup_factor: float, warmup_iters: int, num_updates: int):
        """
        Args:
            power: of the fall.
            warmup_factor: with which the rise begins.
            warmup_iters: updates that it takes.
            num_updates: of the training.
        """
        self.power = power
        self.warmup_factor = warmup_factor
        self.warmup_iters = warmup_iters
        self.num_updates = num_updates

    def __call__(self, where: float) -> float:
        """
        Args:
            where: finished share of the training.
        """
        progress = 1.0
        if self.warmup_iters > 0:
            progress = min(where * self.num_updates / self.warmup_iters, 1.0)
        warmup = self.warmup_factor * (1 - progress) + progress
        return warmup * (1 - where) ** self.power


def build_lr_scheduler(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> LRScheduler:
    """The schedule "RiseAndFallPolyLR" of `rise_and_fall`, or one of Detectron2's.

    Raises:
        InputError: a peak outside the training or a floor above the base rate.
    """
    solver = cfg.SOLVER
    if solver.LR_SCHEDULER_NAME != "RiseAndFallPolyLR":
        with input_errors("SOLVER", AssertionError, ValueError):  # an unknown name, for example
            return deeplab.build_lr_scheduler(cfg, optimizer)
    multiplier = RiseAndFallPoly(
        peak_at=solver.LR_PEAK_AT,
        power=solver.POLY_LR_POWER,
        floor=solver.POLY_LR_CONSTANT_ENDING,
        num_updates=solver.MAX_ITER,
    )
    return LRMultiplier(optimizer, multiplier=multiplier, max_iter=solver.MAX_ITER)
