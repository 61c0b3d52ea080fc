"""What the scripts run in each process."""

import argparse
from typing import Any

from detectron2.config import CfgNode, instantiate
from detectron2.engine import default_setup
from torch import nn

from ..diffusion import FeatureUNet, LatentEncoder
from ..diffusion.speedups import pack_convolutions
from ..utils.errors import input_errors
from ..utils.precision import amp_dtype, convert_weights
from .checkpointer import SafeCheckpointer
from .ema import load_averages
from .lazy import LazyTrainer, build_lazy_checkpointer, evaluate_lazy, load_lazy_config
from .setup import setup, setup_loggers
from .trainer import Trainer

__all__ = ["load_model", "train_or_evaluate", "train_or_evaluate_lazy"]


def load_model(cfg: CfgNode, *, resume: bool = False) -> nn.Module:
    """The model of a config with MODEL.WEIGHTS, or OUTPUT_DIR's last checkpoint to resume from.

    Where SOLVER.EMA.ENABLED, a checkpoint's averages take the place of its weights. It is made for
    inference: with TEST.AMP.ENABLED, VAE and UNet hold half precision weights, and on a CPU with
    MODEL.SPEED.PACK_KERNELS the kernels of their convolutions in oneDNN's order.
    """
    model = Trainer.build_model(cfg)
    checkpointer = SafeCheckpointer.of_config(cfg, model)
    loaded = checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
    if cfg.SOLVER.EMA.ENABLED:
        load_averages(model, loaded)
    dtype = amp_dtype(cfg.TEST.AMP, "TEST.AMP")
    compiled = bool(cfg.MODEL.SPEED.COMPILE)
    for network in [m for m in model.modules() if isinstance(m, FeatureUNet | LatentEncoder)]:
        if dtype is not None:
            convert_weights(network, dtype)
        if cfg.MODEL.SPEED.PACK_KERNELS and cfg.MODEL.DEVICE == "cpu" and not compiled:
            pack_convolutions(network)
    return model


def train_or_evaluate(args: argparse.Namespace) -> dict[str, Any]:
    """Run one process of `tools/train_net.py`, or of your own script that registers datasets.

    Args:
        args: Arguments of Detectron2's `default_argument_parser`.

    Returns:
        Metrics of the last evaluation on the main process, an empty dict on the others.
    """
    cfg = setup(args)
    if args.eval_only:
        return Trainer.test(cfg, load_model(cfg, resume=args.resume))
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


def train_or_evaluate_lazy(args: argparse.Namespace) -> dict[str, Any]:
    """Run one process of `tools/lazyconfig_train_net.py`.

    Args:
        args: Arguments of Detectron2's `default_argument_parser`.

    Returns:
        Metrics of the last evaluation on the main process, an empty dict on the others.
    """
    cfg = load_lazy_config(args.config_file, args.opts)
    with input_errors(f"train.output_dir {cfg.train.output_dir}", OSError):
        default_setup(cfg, args)
        setup_loggers(cfg.train.output_dir)
    if args.eval_only:
        model = instantiate(cfg.model).to(cfg.train.device)
        checkpointer = build_lazy_checkpointer(cfg, model)
        loaded = checkpointer.resume_or_load(cfg.train.init_checkpoint, resume=args.resume)
        if cfg.train.ema.enabled:
            load_averages(model, loaded)
        return evaluate_lazy(cfg, model)
    trainer = LazyTrainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()
