"""What the scripts run in each process."""

import argparse
from typing import Any

from detectron2.config import CfgNode, instantiate
from detectron2.engine import default_setup
from torch import nn

from ..diffusion.speedups import optimize_for_inference
from ..utils.errors import input_errors
from ..utils.precision import amp_dtype
from .checkpointer import SafeCheckpointer
from .ema import load_averages
from .evaluation import check_results
from .lazy import LazyTrainer, build_lazy_checkpointer, evaluate_lazy, load_lazy_config
from .setup import setup, setup_loggers
from .trainer import Trainer


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
    loaded = checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
    if cfg.SOLVER.EMA.ENABLED:
        load_averages(model, loaded)
    if optimize:
        optimize_for_inference(
            model,
            dtype=amp_dtype(cfg.TEST.AMP, "TEST.AMP"),
            channels_last=cfg.MODEL.SPEED.CHANNELS_LAST,
            compile_mode=cfg.MODEL.SPEED.COMPILE,
            pack_kernels=cfg.MODEL.SPEED.PACK_KERNELS,
        )
    return model


def train_or_evaluate(args: argparse.Namespace) -> dict[str, Any]:
    """Run one process of `tools/train_net.py`, or of your own script that registers datasets.

    Args:
        args: Arguments of Detectron2's `default_argument_parser`.

    Returns:
        Results of the last evaluation as `Trainer.test` returns them: metrics by task, or by
        dataset and task, on the main process; an empty dict on the others.

    Raises:
        SystemExit: The results aren't TEST.EXPECTED_RESULTS.
    """
    cfg = setup(args)
    if args.eval_only:
        results = Trainer.test(cfg, load_model(cfg, resume=args.resume))
        check_results(cfg, results)
        return results
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


def train_or_evaluate_lazy(args: argparse.Namespace) -> dict[str, Any]:
    """Run one process of `tools/lazyconfig_train_net.py`, as `train_or_evaluate` does."""
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
        optimize_for_inference(model, **cfg.train.speed)
        return evaluate_lazy(cfg, model)
    trainer = LazyTrainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()
