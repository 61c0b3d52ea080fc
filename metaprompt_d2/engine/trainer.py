"""`Trainer`: training from a YAML config, with the interface of Detectron2's `DefaultTrainer`."""

import inspect
import logging
import os
from collections.abc import Iterable
from typing import Any

from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, hooks
from detectron2.evaluation import DatasetEvaluator
from detectron2.modeling import build_model
from detectron2.utils import comm
from fvcore.nn.precise_bn import get_bn_modules
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DataLoader

from ..config import check_combinations, check_registered_parts
from ..data import build_mapper, build_test_loader, build_train_loader, check_datasets
from ..evaluation import MergedEvaluators, build_evaluators
from ..evaluation.pictures import PictureWriter
from ..modeling import with_test_time_augmentation
from ..utils.errors import input_errors
from .base_trainer import BaseTrainer
from .checkpointer import SafeCheckpointer
from .evaluation import check_results, evaluate, full_metric_name
from .optimizer import build_optimizer
from .schedule import build_lr_scheduler

logger = logging.getLogger(__name__)


class Trainer(BaseTrainer):
    """Training from a YAML config.

    Has the methods of Detectron2's `DefaultTrainer`. Override its class methods to change a part.
    """

    auto_scale_workers = staticmethod(DefaultTrainer.auto_scale_workers)

    def __init__(self, cfg: CfgNode):
        """
        Args:
            cfg: Config, such as `load_config` returns.
        """
        check_combinations(cfg)
        check_datasets(cfg)
        with input_errors("SOLVER.REFERENCE_WORLD_SIZE", AssertionError):
            self.cfg = cfg = self.auto_scale_workers(cfg, comm.get_world_size())
        model = self.build_model(cfg)
        logger.info("Model:\n%s", model)
        if cfg.DATASETS.TEST:
            with_test_time_augmentation(cfg, model)  # refuses before the training what it must
        optimizer = self.build_optimizer(cfg, model)
        scheduler = self.build_lr_scheduler(cfg, optimizer)
        checkpointer = SafeCheckpointer.of_config(cfg, model)
        super().__init__(training_settings(cfg), model, optimizer, scheduler, checkpointer)

    def build_loader(self, seed: int, start_iter: int) -> Iterable[list[dict]]:
        options = {"seed": seed, "start_iter": start_iter}
        accepted = options.keys() & inspect.signature(self.build_train_loader).parameters
        return self.build_train_loader(self.cfg, **{name: options[name] for name in accepted})

    def build_hooks(self) -> list[hooks.HookBase]:
        """Build the hooks of `BaseTrainer`, and precise BatchNorm if the config asks for it."""
        built = super().build_hooks()
        precise = self.cfg.TEST.PRECISE_BN
        if precise.ENABLED and get_bn_modules(self.model):
            cfg = self.cfg.clone()
            cfg.defrost()
            cfg.DATALOADER.NUM_WORKERS = 0  # as in DefaultTrainer: saves memory and time
            loader, period = self.build_train_loader(cfg), cfg.TEST.EVAL_PERIOD
            # Before the checkpoint, which holds the statistics.
            built.insert(2, hooks.PreciseBN(period, self.model, loader, precise.NUM_ITER))
        return built

    def evaluate(self) -> dict[str, Any]:
        return self.test(self.cfg, self.model)

    def after_train(self) -> None:
        super().after_train()
        if self.iter >= self.max_iter:
            check_results(self.cfg, self._last_eval_results)

    @classmethod
    def test(
        cls,
        cfg: CfgNode,
        model: nn.Module,
        evaluators: DatasetEvaluator | list[DatasetEvaluator] | None = None,
    ) -> dict[str, Any]:
        """Evaluate a model on DATASETS.TEST, with test-time augmentation if TEST.AUG.ENABLED.

        Args:
            cfg: Config.
            model: Model; unchanged afterwards.
            evaluators: Evaluators, one for each dataset; None for those of `build_evaluator`.

        Returns:
            Metrics by task, or by dataset and task if there are several datasets; an empty dict on
            all but the main process.
        """
        if isinstance(evaluators, DatasetEvaluator):
            evaluators = [evaluators]
        names = cfg.DATASETS.TEST
        evaluated = with_test_time_augmentation(cfg, model)
        evaluated.training = model.training  # `inference_on_dataset` restores the wrapper's mode
        results = {}
        for name, evaluator in zip(names, evaluators or [None] * len(names), strict=True):
            loader = cls.build_test_loader(cfg, name)
            logger.info("Evaluating on %s", name)
            results[name] = evaluate(evaluated, loader, evaluator or cls.build_evaluator(cfg, name))
        if not comm.is_main_process():
            return {}
        return results[names[0]] if len(results) == 1 else results

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        check_registered_parts(cfg)
        return build_model(cfg)

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> Optimizer:
        return build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(cls, cfg: CfgNode, optimizer: Optimizer) -> LRScheduler:
        return build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_train_loader(
        cls, cfg: CfgNode, seed: int | None = None, start_iter: int = 0
    ) -> Iterable[list[dict]]:
        """Build the loader of the training; `start_iter` is the iteration whose batch comes first.

        An override may leave out `seed` and `start_iter`, as DefaultTrainer's does. Without
        `start_iter`, a resumed training begins with the loader's first batch.
        """
        seed = max(cfg.SEED, 0) if seed is None else seed
        mapper = build_mapper(cfg, is_train=True)
        return build_train_loader(cfg, mapper, seed=seed, start_iter=start_iter)

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> DataLoader:
        return build_test_loader(cfg, dataset_name, build_mapper(cfg, is_train=False))

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        evaluators = build_evaluators(cfg, dataset_name)
        if cfg.TEST.NUM_PICTURES > 0:
            folder = os.path.join(cfg.OUTPUT_DIR, "inference", dataset_name)
            evaluators.append(PictureWriter(dataset_name, folder, cfg.TEST.NUM_PICTURES))
        return MergedEvaluators(evaluators)


def training_settings(cfg: CfgNode) -> DictConfig:
    """Translate a config to the keys that a LazyConfig's `train` holds for a training."""
    solver, speed, clipping = cfg.SOLVER, cfg.MODEL.SPEED, cfg.SOLVER.CLIP_GRADIENTS
    clips_whole_model = clipping.ENABLED and clipping.CLIP_TYPE == "full_model"
    amp = solver.AMP
    settings = {
        "output_dir": cfg.OUTPUT_DIR,
        "device": cfg.MODEL.DEVICE,
        "init_checkpoint": cfg.MODEL.WEIGHTS,
        "skip_mismatches": list(cfg.MODEL.SKIP_MISMATCHES),
        "diffusion": {"weights": cfg.MODEL.DIFFUSION.WEIGHTS, "strict": cfg.MODEL.DIFFUSION.STRICT},
        "seed": cfg.SEED,
        "cudnn_benchmark": cfg.CUDNN_BENCHMARK,
        "max_image_pixels": cfg.INPUT.MAX_IMAGE_PIXELS,
        "max_iter": solver.MAX_ITER,
        "eval_period": cfg.TEST.EVAL_PERIOD,
        "checkpointer": {"period": solver.CHECKPOINT_PERIOD},
        "log_period": solver.LOG_PERIOD,
        "best_metric": {
            "name": full_metric_name(solver.BEST_METRIC, cfg.DATASETS.TEST),
            "mode": solver.BEST_METRIC_MODE,
        },
        "accumulation_steps": solver.ACCUMULATION_STEPS,
        "amp": {"enabled": amp.ENABLED, "dtype": amp.DTYPE, "convert_frozen": amp.CONVERT_FROZEN},
        "max_grad_norm": clipping.CLIP_VALUE if clips_whole_model else None,
        "ema": {"enabled": solver.EMA.ENABLED, "decay": solver.EMA.DECAY},
        "speed": {"channels_last": speed.CHANNELS_LAST, "compile_mode": speed.COMPILE},
        "ddp": {
            "broadcast_buffers": False,
            "find_unused_parameters": solver.FIND_UNUSED_PARAMETERS,
        },
    }
    return OmegaConf.create(settings, flags={"allow_objects": True})
