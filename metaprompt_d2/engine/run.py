"""What the scripts run in each process."""

import argparse

from detectron2.config import CfgNode
from torch import nn

from ..diffusion.speedups import optimize_for_inference
from ..utils.precision import amp_dtype
from .checkpointer import SafeCheckpointer
from .ema import take_averages
from .setup import setup
from .trainer import Trainer

__all__ = ["load_model", "train_or_evaluate"]


def load_model(cfg: CfgNode, *, resume: bool = False, optimize: bool = True) -> nn.Module:
    """Build a config's model for inference and load its weights.

    With SOLVER.EMA.ENABLED, the averages of a checkpoint replace its weights.

    Args:
        cfg: Config with MODEL.WEIGHTS.
        resume: Whether the last checkpoint in OUTPUT_DIR, if any, replaces MODEL.WEIGHTS.
        optimize: Whether the model is made fast as TEST.AMP and MODEL.SPEED say.
    """
    model = Trainer.build_model(cfg)
    checkpointer = SafeCheckpointer.of_config(cfg, model)
    rest = checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
    if cfg.SOLVER.EMA.ENABLED:
        take_averages(model, rest, cfg.SOLVER.EMA.DECAY)
    if optimize:
        optimize_for_inference(
            model,
            dtype=amp_dtype(cfg.TEST.AMP, "TEST.AMP"),
            channels_last=cfg.MODEL.SPEED.CHANNELS_LAST,
            compile_mode=cfg.MODEL.SPEED.COMPILE,
            pack_kernels=cfg.MODEL.SPEED.PACK_KERNELS,
        )
    return model


def train_or_evaluate(args: argparse.Namespace) -> dict | None:
    """One process of `tools/train_net.py`, or of a script of yours that registers datasets.

    Args:
        args: of Detectron2's `default_argument_parser`.

    Returns:
        the figures of the last evaluation on the main process.
    """
    cfg = setup(args)
    if args.eval_only:
        return Trainer.test(cfg, load_model(cfg, resume=args.resume))
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()
