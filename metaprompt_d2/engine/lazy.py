"""LazyConfigs: how their parts are made; the counterparts of `load_config` and `Trainer`.

docs/lazy.md says what a config holds. Everything but `train` is instantiated as it stands there.
"""

import copy
import inspect
import logging
from collections.abc import Iterable
from typing import Any

from detectron2.config import LazyConfig, instantiate
from detectron2.solver import LRMultiplier
from detectron2.utils.registry import locate
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from ..config import default_config, read_lazy_config
from ..data.image_files import limit_pixels
from ..utils.errors import InputError, UnknownKeyError
from .base_trainer import BaseTrainer
from .checkpointer import SafeCheckpointer
from .evaluation import evaluate
from .setup import available_device
from .trainer import training_settings

logger = logging.getLogger(__name__)


def load_lazy_config(
    config_file: str, overrides: list[str], *, trusted: bool = False
) -> DictConfig:
    """Load a LazyConfig and apply overrides. Without a GPU, train.device "cuda" becomes "cpu".

    Keys that the trainer reads and `train` lacks, as in other projects' configs, get this package's
    defaults. `train.max_image_pixels` becomes this process's limit of image sizes.

    Args:
        config_file: Path, also "metaprompt_d2://lazy/cityscapes_seg.py". A `.py` file is a program
            and is run.
        overrides: Strings of the form "key=value".
        trusted: Whether a YAML file may call any function (`read_lazy_config`).

    Raises:
        MissingFileError: The config file doesn't exist.
        UnknownKeyError: Neither the config nor the function that is called there has a key.
        InputError: A YAML file isn't one, or calls what it may not.
    """
    cfg = read_lazy_config(config_file, trusted=trusted)
    _complete_train(cfg, config_file)
    for override in overrides:
        _check_key(cfg, override.partition("=")[0], config_file)
    LazyConfig.apply_overrides(cfg, overrides)
    cfg.train.device = available_device(cfg.train.device, "train.device")
    limit_pixels(cfg.train.max_image_pixels)
    return cfg


def _complete_train(cfg: DictConfig, config_file: str) -> None:
    """Add the defaults to `train`, and name the keys that only another project's trainer reads."""
    defaults = training_settings(default_config())
    defaults.best_metric.name = ""
    train = cfg.get("train", OmegaConf.create())
    if not isinstance(train, DictConfig):
        raise InputError(f"{config_file}: train is {train!r}, expected keys and values")
    foreign = [
        f"train.{key!s}"
        for key, value in train.items_ex(resolve=False)
        if key not in defaults and not _is_switched_off(value)
    ]
    if foreign:
        names = ", ".join(foreign)
        logger.warning("%s: the trainer doesn't read %s (docs/lazy.md)", config_file, names)
    cfg.train = OmegaConf.merge(defaults, train)


def _is_switched_off(value: Any) -> bool:
    return isinstance(value, DictConfig) and value.get("enabled") is False


def _check_key(cfg: DictConfig, key: str, config_file: str) -> None:
    """Refuse a misspelled key, which Detectron2 would add and nothing would read."""
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(cfg, parent) if parent else cfg
    exists = isinstance(node, DictConfig) and (name in node or _accepts(node, name))
    if not exists and not OmegaConf.is_list(node):
        raise UnknownKeyError(f"{config_file} has no key {key!r}")


def _accepts(node: DictConfig, name: str) -> bool:
    """Say whether the function that a node calls has an argument with this name."""
    if "_target_" not in node:
        return False
    target = node["_target_"]
    target = locate(target) if isinstance(target, str) else target
    return name in inspect.signature(target).parameters


class LazyTrainer(BaseTrainer):
    """Training from a LazyConfig."""

    def __init__(self, cfg: DictConfig):
        """
        Args:
            cfg: Config with `model`, `dataloader`, `optimizer`, `lr_multiplier` and `train`.
        """
        self.cfg, train = cfg, cfg.train
        model = instantiate(cfg.model).to(train.device)
        cfg.optimizer.params.model = model
        optimizer = instantiate(cfg.optimizer)
        updates = max(train.max_iter, 1)  # 0 for a training without iterations
        scheduler = LRMultiplier(optimizer, instantiate(cfg.lr_multiplier), updates)
        checkpointer = build_lazy_checkpointer(cfg, model)
        super().__init__(train, model, optimizer, scheduler, checkpointer)

    def build_loader(self, seed: int, start_iter: int) -> Iterable[list[dict]]:
        """Build `dataloader.train`; without an argument `start_iter`, it begins at its start."""
        loader = copy.deepcopy(self.cfg.dataloader.train)
        for name, value in (("seed", seed), ("start_iter", start_iter)):
            if _accepts(loader, name):
                loader[name] = value
        return instantiate(loader)

    def evaluate(self) -> dict[str, Any]:
        return evaluate_lazy(self.cfg, self.model)


def evaluate_lazy(cfg: DictConfig, model: nn.Module) -> dict[str, Any]:
    """Evaluate a model on `dataloader.test`, with test-time augmentation if `tta.enabled`.

    Args:
        cfg: LazyConfig.
        model: Model; unchanged afterwards.

    Returns:
        Metrics of `dataloader.evaluator` on the main process, an empty dict on the others.
    """
    evaluated = model
    if "tta" in cfg and cfg.tta.enabled:
        wrapper = copy.deepcopy(cfg.tta.model)
        distributed = isinstance(model, DistributedDataParallel)
        wrapper.model = model.module if distributed else model
        evaluated = instantiate(wrapper)
        evaluated.training = model.training  # `inference_on_dataset` restores the wrapper's mode
    loader, evaluator = instantiate(cfg.dataloader.test), instantiate(cfg.dataloader.evaluator)
    return evaluate(evaluated, loader, evaluator)


def build_lazy_checkpointer(
    cfg: DictConfig, model: nn.Module, *, for_inference: bool = False
) -> SafeCheckpointer:
    """Build the checkpointer of a LazyConfig's model."""
    source = cfg.train.diffusion
    return SafeCheckpointer(
        model,
        cfg.train.output_dir,
        diffusion_weights=source.weights,
        strict_diffusion=source.strict,
        skip_mismatches=cfg.train.skip_mismatches,
        for_inference=for_inference,
    )
