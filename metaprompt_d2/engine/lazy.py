"""LazyConfigs: the counterparts of `load_config`, `Trainer` and `train_or_evaluate`.

What a config holds is in docs/lazy.md; all but `train` is called as it stands there.
"""

import argparse
import inspect
import logging

import torch
from detectron2.config import LazyConfig, instantiate
from detectron2.engine import default_setup, hooks
from detectron2.evaluation import inference_on_dataset, print_csv_format
from detectron2.solver import LRMultiplier
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from detectron2.utils.registry import locate
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..diffusion.speedups import optimize_for_inference, optimize_for_training
from ..utils.errors import InputError, MissingFileError, UnknownKeyError
from ..utils.precision import half_precision
from .checkpointer import SafeCheckpointer
from .ema import WeightAverage, averages_in_place, take_averages
from .frozen_weights import convert_frozen_weights
from .hooks import BestCheckpointer
from .setup import setup_loggers
from .train_loop import NonFiniteLossError, TrainLoop
from .trainer import parallel, save_last_finished, share_buffers, writers

__all__ = ["LazyTrainer", "evaluate_lazy", "load_lazy_config", "train_or_evaluate_lazy"]


def load_lazy_config(config_file: str, overrides: list[str]) -> DictConfig:
    """A LazyConfig and overrides. Where there is no GPU, train.device "cuda" becomes "cpu".

    Args:
        config_file: path, also "metaprompt_d2://lazy/cityscapes_seg.py".
        overrides: of the form "key=value".

    Raises:
        MissingFileError: there is no such config file.
        UnknownKeyError: a key that neither the config nor what is called there has.
    """
    if not PathManager.isfile(config_file):
        raise MissingFileError(f"config file {config_file} does not exist")
    cfg = LazyConfig.load(config_file)
    for override in overrides:
        _check_key(cfg, override.partition("=")[0], config_file)
    LazyConfig.apply_overrides(cfg, overrides)
    if cfg.train.device == "cuda" and not torch.cuda.is_available():
        logging.getLogger(__name__).warning("No GPU: train.device is set to cpu")
        cfg.train.device = "cpu"
    return cfg


def _check_key(cfg: DictConfig, key: str, config_file: str) -> None:
    """Detectron2 would take a misspelt key for a new one, and nothing would read it."""
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(cfg, parent) if parent else cfg
    if isinstance(node, DictConfig) and (name in node or _accepts(node, name)):
        return
    if not OmegaConf.is_list(node):
        raise UnknownKeyError(f"{config_file} has no key {key!r}")


def _accepts(node: DictConfig, name: str) -> bool:
    """Whether what a node calls has an argument of a name."""
    if "_target_" not in node:
        return False
    target = node["_target_"]
    target = locate(target) if isinstance(target, str) else target
    return name in inspect.signature(target).parameters


def train_or_evaluate_lazy(args: argparse.Namespace) -> dict | None:
    """One process of `tools/lazyconfig_train_net.py`.

    Args:
        args: of Detectron2's `default_argument_parser`.

    Returns:
        the figures of the evaluation on the main process, with `--eval-only`.
    """
    cfg = load_lazy_config(args.config_file, args.opts)
    default_setup(cfg, args)
    setup_loggers(cfg.train.output_dir)
    if args.eval_only:
        model = instantiate(cfg.model).to(cfg.train.device)
        checkpointer = _checkpointer(cfg, model)
        rest = checkpointer.resume_or_load(cfg.train.init_checkpoint, resume=args.resume)
        if cfg.train.ema.enabled:
            take_averages(model, rest, cfg.train.ema.decay)
        optimize_for_inference(model, **cfg.train.speed)
        return evaluate_lazy(cfg, model)
    trainer = LazyTrainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    trainer.train(trainer.start_iter, cfg.train.max_iter)
    return None


def evaluate_lazy(cfg: DictConfig, model: nn.Module) -> dict:
    """Figures of `cfg.dataloader.evaluator`, with test-time augmentation where `cfg.tta` asks."""
    share_buffers(model)
    if "tta" in cfg and cfg.tta.enabled:
        distributed = isinstance(model, DistributedDataParallel)
        cfg.tta.model.model = model.module if distributed else model
        model = instantiate(cfg.tta.model)
    evaluator = instantiate(cfg.dataloader.evaluator)
    results = inference_on_dataset(model, instantiate(cfg.dataloader.test), evaluator)
    if comm.is_main_process():
        print_csv_format(results)
    return results


def _checkpointer(cfg: DictConfig, model: nn.Module, **checkpointables) -> SafeCheckpointer:
    return SafeCheckpointer(
        model,
        cfg.train.output_dir,
        diffusion_weights=cfg.train.diffusion.weights,
        strict_diffusion=cfg.train.diffusion.strict,
        **checkpointables,
    )


class LazyTrainer(TrainLoop):
    """The training that a LazyConfig describes, with the hooks of `Trainer`."""

    def __init__(self, cfg: DictConfig):
        """
        Args:
            cfg: with `model`, `dataloader`, `optimizer`, `lr_multiplier` and `train`.
        """
        self.cfg, train = cfg, cfg.train
        model = instantiate(cfg.model).to(train.device)
        half = half_precision(train.amp.dtype, "train.amp.dtype") if train.amp.enabled else None
        if train.amp.convert_frozen:
            if half is None:
                raise InputError("train.amp.convert_frozen needs train.amp.enabled")
            convert_frozen_weights(model, half)
        optimize_for_training(model, **train.speed)
        cfg.optimizer.params.model = model
        average = WeightAverage(model, train.ema.decay) if train.ema.enabled else None
        super().__init__(
            parallel(model, **train.ddp),
            instantiate(cfg.dataloader.train),
            instantiate(cfg.optimizer),
            seed=train.seed,
            accumulation_steps=train.accumulation_steps,
            amp_dtype=half,
            max_grad_norm=train.max_grad_norm,
            average=average,
        )
        multiplier = instantiate(cfg.lr_multiplier)
        scheduler = LRMultiplier(self.optimizer, multiplier=multiplier, max_iter=train.max_iter)
        saved = {"trainer": self} | ({} if average is None else {"ema": average})
        self.checkpointer = _checkpointer(cfg, model, **saved)
        self.start_iter = 0
        self.register_hooks(
            [
                hooks.IterationTimer(),
                hooks.LRScheduler(self.optimizer, scheduler),
                *self._hooks_of_the_main_process(
                    hooks.PeriodicCheckpointer(self.checkpointer, **train.checkpointer)
                ),
                hooks.EvalHook(train.eval_period, self._evaluate),
                *self._hooks_of_the_main_process(
                    BestCheckpointer(
                        train.eval_period,
                        self.checkpointer,
                        train.best_metric.name,
                        train.best_metric.mode,
                    ),
                    hooks.PeriodicWriter(
                        writers(train.output_dir, train.max_iter), train.log_period
                    ),
                ),
            ]
        )

    def _evaluate(self) -> dict:
        with averages_in_place(self.average):
            return evaluate_lazy(self.cfg, self.model)

    def resume_or_load(self, resume: bool) -> None:
        """As in `Trainer`: the data stream goes on where the checkpoint stands."""
        self.checkpointer.resume_or_load(self.cfg.train.init_checkpoint, resume=resume)
        if resume and self.checkpointer.has_checkpoint():
            self.start_iter = self.iter + 1
            loader = self.cfg.dataloader.train
            if _accepts(loader, "start_iter"):  # Detectron2's own has no such thing
                loader.start_iter = self.start_iter
                self.reset_data_loader(lambda: instantiate(loader))

    def run_step(self) -> None:
        """
        Raises:
            NonFiniteLossError: after a checkpoint of the last finished iteration was written.
        """
        try:
            super().run_step()
        except NonFiniteLossError:
            save_last_finished(self)
            raise

    @staticmethod
    def _hooks_of_the_main_process(*built: hooks.HookBase) -> list[hooks.HookBase]:
        return list(built) if comm.is_main_process() else []
