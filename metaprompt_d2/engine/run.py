"""What the scripts run in each process."""

import argparse
import logging
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from detectron2.config import CfgNode, instantiate
from detectron2.engine import default_argument_parser
from detectron2.utils import comm
from torch import nn

from ..checkpoint import AVERAGES
from ..diffusion.speedups import optimize_for_inference
from ..modeling import WithoutRandomWeights
from ..utils.errors import InputError
from ..utils.precision import amp_dtype
from .checkpointer import SafeCheckpointer
from .ema import load_averages
from .evaluation import check_results
from .lazy import LazyTrainer, build_lazy_checkpointer, evaluate_lazy, load_lazy_config
from .output_folder import claim_output_folder
from .setup import load_config, setup_process
from .trainer import Trainer

logger = logging.getLogger(__name__)


def load_model(
    cfg: CfgNode, *, resume: bool = False, optimize: bool = True, require_weights: bool = True
) -> nn.Module:
    """Build a config's model for inference and load its weights.

    With SOLVER.EMA.ENABLED, the averages of a checkpoint replace its weights.

    Args:
        cfg: Config with MODEL.WEIGHTS.
        resume: Whether the last checkpoint in OUTPUT_DIR, if any, replaces MODEL.WEIGHTS.
        optimize: Whether the model is made fast as TEST.AMP and MODEL.SPEED say.
        require_weights: Whether an empty MODEL.WEIGHTS is an error. If False, the model then has
            the weights that a training would start from.

    Raises:
        InputError: There are no weights, or they aren't exactly the model's.
    """
    with WithoutRandomWeights() if cfg.MODEL.WEIGHTS else nullcontext():
        model = Trainer.build_model(cfg)
    _load_for_inference(
        SafeCheckpointer.of_config(cfg, model, for_inference=True),
        ("MODEL.WEIGHTS", cfg.MODEL.WEIGHTS),
        ("SOLVER.EMA.ENABLED", cfg.SOLVER.EMA.ENABLED),
        resume=resume,
        require_weights=require_weights,
    )
    if optimize:
        optimize_for_inference(
            model,
            dtype=amp_dtype(cfg.TEST.AMP, "TEST.AMP"),
            channels_last=cfg.MODEL.SPEED.CHANNELS_LAST,
            compile_mode=cfg.MODEL.SPEED.COMPILE,
            pack_kernels=cfg.MODEL.SPEED.PACK_KERNELS,
            pack_float32_kernels=cfg.MODEL.SPEED.PACK_FLOAT32_KERNELS,
        )
    return model


def _load_for_inference(
    checkpointer: SafeCheckpointer,
    weights: tuple[str, str],
    averages: tuple[str, bool],
    *,
    resume: bool,
    require_weights: bool = True,
) -> None:
    """Load a checkpoint into the checkpointer's model.

    Args:
        checkpointer: Checkpointer for inference.
        weights: Name and value of the key of the checkpoint.
        averages: Name and value of the key that asks for averages.
        resume: Whether the last checkpoint of the output folder, if any, is loaded instead.
        require_weights: Whether an error is raised where there is neither.
    """
    (key, path), (averages_key, wants_averages) = weights, averages
    has_weights = path or resume and checkpointer.has_checkpoint()
    if require_weights and not has_weights:
        raise InputError(
            f"{key} is empty, so the heads would be random: expected a checkpoint"
            + f" ({checkpointer.save_dir} has none to resume)" * resume
        )
    loaded = checkpointer.resume_or_load(path, resume=resume)
    if wants_averages and has_weights:
        load_averages(checkpointer.model, loaded, averages_key)
    elif AVERAGES in loaded:
        logger.warning(
            "The checkpoint has averages (EMA), which are not used, because %s is False",
            averages_key,
        )


def train_or_evaluate(args: argparse.Namespace) -> dict[str, Any]:
    """Run one process of `tools/train_net.py`, or of your own script that registers datasets.

    Args:
        args: Arguments of `training_argument_parser`, or of Detectron2's.

    Returns:
        Results of the last evaluation as `Trainer.test` returns them: metrics by task, or by
        dataset and task, on the main process; an empty dict on the others.

    Raises:
        SystemExit: The results aren't TEST.EXPECTED_RESULTS.
    """
    cfg = load_config(args.config_file, args.opts)
    with _output_folder(args, cfg.OUTPUT_DIR):
        setup_process(cfg, args, cfg.OUTPUT_DIR, trains=not args.eval_only)
        if args.eval_only:
            results = Trainer.test(cfg, load_model(cfg, resume=args.resume))
            check_results(cfg, results)
            return results
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
            with WithoutRandomWeights() if cfg.train.init_checkpoint else nullcontext():
                model = instantiate(cfg.model).to(cfg.train.device)
            _load_for_inference(
                build_lazy_checkpointer(cfg, model, for_inference=True),
                ("train.init_checkpoint", cfg.train.init_checkpoint),
                ("train.ema.enabled", cfg.train.ema.enabled),
                resume=args.resume,
            )
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
