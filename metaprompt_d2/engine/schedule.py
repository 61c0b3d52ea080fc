"""Learning rates over the iterations."""

import torch
from detectron2.config import CfgNode
from detectron2.projects import deeplab
from torch.optim.lr_scheduler import LambdaLR, LRScheduler

__all__ = ["build_lr_scheduler", "rise_and_fall"]


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


def build_lr_scheduler(cfg: CfgNode, optimizer: torch.optim.Optimizer) -> LRScheduler:
    """The schedule "RiseAndFallPolyLR" of `rise_and_fall`, or one of Detectron2's.

    Raises:
        ValueError: a peak outside the training or a floor above the base rate.
    """
    solver = cfg.SOLVER
    if solver.LR_SCHEDULER_NAME != "RiseAndFallPolyLR":
        return deeplab.build_lr_scheduler(cfg, optimizer)
    if not 0 < solver.LR_PEAK_AT <= 1:
        raise ValueError(f"SOLVER.LR_PEAK_AT is {solver.LR_PEAK_AT}, expected a share of MAX_ITER")
    floor = solver.POLY_LR_CONSTANT_ENDING
    if not 0 <= floor <= 1:
        raise ValueError(f"SOLVER.POLY_LR_CONSTANT_ENDING is {floor}, expected 0 to 1")
    peak = max(round(solver.LR_PEAK_AT * solver.MAX_ITER), 1)
    return LambdaLR(
        optimizer,
        lambda iteration: rise_and_fall(
            iteration + 1, peak=peak, power=solver.POLY_LR_POWER, floor=floor
        ),
    )
