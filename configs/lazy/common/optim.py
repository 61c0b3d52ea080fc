"""AdamW with learning rate and weight decay by rules on parameter names, and schedules."""

import torch
from detectron2.config import CfgNode
from detectron2.config import LazyCall as L
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import MultiStepParamScheduler
from omegaconf import DictConfig

from metaprompt_d2.engine import RiseAndFallPoly, WarmupPoly, optimizer_groups


def build_optimizer(cfg: CfgNode) -> DictConfig:
    """Build the node of the optimizer; `params.model` is set to the model before it is called."""
    solver = cfg.SOLVER
    return L(torch.optim.AdamW)(
        params=L(optimizer_groups)(
            # (regular expression, learning rate multiplier, weight decay multiplier)
            rules=solver.PARAM_RULES,
            base_lr="${..lr}",
            weight_decay="${..weight_decay}",
            weight_decay_norm=solver.WEIGHT_DECAY_NORM,
            weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
            bias_lr_factor=solver.BIAS_LR_FACTOR,
            decay_vectors=solver.DECAY_VECTORS,
            unet_layer_decay=solver.UNET_LAYER_DECAY,
        ),
        lr=solver.BASE_LR,
        weight_decay=solver.WEIGHT_DECAY,
        fused=True,
    )


def build_lr_multiplier(cfg: CfgNode) -> DictConfig:
    """Build the node of the schedule that SOLVER.LR_SCHEDULER_NAME names."""
    return _SCHEDULES[cfg.SOLVER.LR_SCHEDULER_NAME](cfg.SOLVER)


def _warmup_poly(solver: CfgNode) -> DictConfig:
    return L(WarmupPoly)(
        power=solver.POLY_LR_POWER,
        warmup_factor=solver.WARMUP_FACTOR,
        warmup_iters=solver.WARMUP_ITERS,
        num_updates="${train.max_iter}",
    )


def _rise_and_fall(solver: CfgNode) -> DictConfig:
    return L(RiseAndFallPoly)(
        peak_at=solver.LR_PEAK_AT,
        power=solver.POLY_LR_POWER,
        floor=solver.POLY_LR_CONSTANT_ENDING,
        num_updates="${train.max_iter}",
    )


def _warmup_steps(solver: CfgNode) -> DictConfig:
    # Both schedulers work on shares of the training, so the steps move with train.max_iter.
    return L(WarmupParamScheduler)(
        scheduler=L(MultiStepParamScheduler)(
            values=[solver.GAMMA**step for step in range(len(solver.STEPS) + 1)],
            milestones=solver.STEPS,
            num_updates=solver.MAX_ITER,
        ),
        warmup_factor=solver.WARMUP_FACTOR,
        warmup_length=solver.WARMUP_ITERS / solver.MAX_ITER,
        warmup_method=solver.WARMUP_METHOD,
    )


_SCHEDULES = {
    "RiseAndFallPolyLR": _rise_and_fall,
    "WarmupMultiStepLR": _warmup_steps,
    "WarmupPolyLR": _warmup_poly,
}
