"""What the scripts run in each process."""

import argparse

from detectron2.config import CfgNode
from torch import nn

from ..diffusion import FeatureUNet, LatentEncoder
from ..diffusion.speedups import pack_convolutions
from ..utils.precision import amp_dtype, convert_weights
from .checkpointer import SafeCheckpointer
from .ema import take_averages
from .setup import setup
from .trainer import Trainer

__all__ = ["load_model", "train_or_evaluate"]


def load_model(cfg: CfgNode, *, resume: bool = False) -> nn.Module:
    """The model of a config with MODEL.WEIGHTS, or OUTPUT_DIR's last checkpoint to resume from.

    Where SOLVER.EMA.ENABLED, a checkpoint's averages take the place of its weights. It is made for
    inference: with TEST.AMP.ENABLED, VAE and UNet hold half precision weights, and on a CPU with
    MODEL.SPEED.PACK_KERNELS the kernels of their convolutions in oneDNN's order.
    """
    model = Trainer.build_model(cfg)
    checkpointer = SafeCheckpointer.of_config(cfg, model)
    rest = checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
    if cfg.SOLVER.EMA.ENABLED:
        take_averages(model, rest, cfg.SOLVER.EMA.DECAY)
    dtype = amp_dtype(cfg.TEST.AMP, "TEST.AMP")
    compiled = bool(cfg.MODEL.SPEED.COMPILE)
    for network in [m for m in model.modules() if isinstance(m, FeatureUNet | LatentEncoder)]:
        if dtype is not None:
            convert_weights(network, dtype)
        if cfg.MODEL.SPEED.PACK_KERNELS and cfg.MODEL.DEVICE == "cpu" and not compiled:
            pack_convolutions(network)
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
