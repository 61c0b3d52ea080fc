"""What the scripts run in each process."""

import argparse
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from detectron2.config import CfgNode, instantiate
from detectron2.engine import default_argument_parser
from detectron2.utils import comm
from torch import nn

from ..diffusion.speedups import optimize_for_inference
from ..utils.precision import amp_dtype
from .checkpointer import SafeCheckpointer
from .ema import load_averages
from .lazy import LazyTrainer, build_lazy_checkpointer, evaluate_lazy, load_lazy_config
from .output_folder import claim_output_folder
from .setup import load_config, setup_process
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
        args: Arguments of `training_argument_parser`, or of Detectron2's.

    Returns:
        Metrics of the last evaluation on the main process, an empty dict on the others.
    """
    cfg = load_config(args.config_file, args.opts)
    with _output_folder(args, cfg.OUTPUT_DIR):
        setup_process(cfg, args, cfg.OUTPUT_DIR, trains=not args.eval_only)
        if args.eval_only:
            return Trainer.test(cfg, load_model(cfg, resume=args.resume))
        trainer = Trainer(cfg)
        trainer.resume_or_load(resume=args.resume)
        return trainer.train()


def train_or_evaluate_lazy(args: argparse.Namespace) -> dict[str, Any]:
    """Run one process of `tools/lazyconfig_train_net.py`, as `train_or_evaluate` does."""
    cfg = load_lazy_config(
        args.config_file, args.opts, trusted=getattr(args, "trust_config", False)
    )
    with _output_folder(args, cfg.train.output_dir):
        setup_process(cfg, args, cfg.train.output_dir, trains=not args.eval_only)
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


def training_argument_parser(epilog: str | None = None) -> argparse.ArgumentParser:
    """Make Detectron2's `default_argument_parser` with the arguments of this package.

    Args:
        epilog: Text after the arguments' help.
    """
    parser = default_argument_parser(epilog=epilog)
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="delete the checkpoints and metrics of a training that the output folder holds",
    )
    return parser


def _output_folder(args: argparse.Namespace, folder: str) -> AbstractContextManager:
    """Claim the output folder of a training for this process, if it is the one that writes."""
    if args.eval_only or not folder or not comm.is_main_process():
        return nullcontext()
    overwrite = getattr(args, "overwrite", False)  # Detectron2's own parser lacks it
    return claim_output_folder(folder, resume=args.resume, overwrite=overwrite)
