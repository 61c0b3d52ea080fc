"""`Trainer`: Detectron2's `DefaultTrainer` with this package's data, optimizer and evaluators."""

import logging
import os
import weakref

import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, create_ddp_model, hooks
from detectron2.engine.train_loop import TrainerBase
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from detectron2.utils.events import (
    CommonMetricPrinter,
    EventWriter,
    JSONWriter,
    TensorboardXWriter,
)
from torch import nn

from ..config import check_combinations, check_registered_parts
from ..data import build_mapper, build_test_loader, build_train_loader, check_datasets
from ..diffusion.speedups import optimize_for_training
from ..evaluation import MergedEvaluators, build_evaluators
from ..evaluation.pictures import PictureWriter
from ..modeling import with_test_time_augmentation
from ..utils.precision import amp_dtype, half_precision
from .checkpointer import SafeCheckpointer
from .ema import WeightAverage, averages_in_place
from .frozen_weights import convert_frozen_weights
from .hooks import BestCheckpointer
from .optimizer import build_optimizer
from .schedule import build_lr_scheduler
from .train_loop import NonFiniteLossError, TrainLoop

__all__ = ["Trainer", "parallel", "save_last_finished", "share_buffers", "writers"]

logger = logging.getLogger(__name__)


class Trainer(DefaultTrainer):
    """Training from a config, resumable to the bit, on GPUs or CPU processes."""

    def __init__(self, cfg: CfgNode):
        # DefaultTrainer's own constructor wraps CPU models in a DDP that takes GPUs only and
        # offers no hook for it, so its steps are repeated here.
        TrainerBase.__init__(self)
        check_combinations(cfg)
        check_datasets(cfg)
        self.cfg = cfg = DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size())
        self.seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
        model = self.build_model(cfg)
        if cfg.SOLVER.AMP.CONVERT_FROZEN:
            convert_frozen_weights(model, half_precision(cfg.SOLVER.AMP.DTYPE, "SOLVER.AMP.DTYPE"))
        speed = cfg.MODEL.SPEED
        optimize_for_training(model, channels_last=speed.CHANNELS_LAST, compile_mode=speed.COMPILE)
        optimizer = self.build_optimizer(cfg, model)
        ema = cfg.SOLVER.EMA
        self.average = WeightAverage(model, ema.DECAY) if ema.ENABLED else None
        clipping = cfg.SOLVER.CLIP_GRADIENTS
        clips_whole_model = clipping.ENABLED and clipping.CLIP_TYPE == "full_model"
        self._trainer = TrainLoop(
            parallel(model, find_unused_parameters=cfg.SOLVER.FIND_UNUSED_PARAMETERS),
            self._build_seeded_loader(),
            optimizer,
            seed=self.seed,
            accumulation_steps=cfg.SOLVER.ACCUMULATION_STEPS,
            amp_dtype=amp_dtype(cfg.SOLVER.AMP, "SOLVER.AMP"),
            max_grad_norm=clipping.CLIP_VALUE if clips_whole_model else None,
            average=self.average,
        )
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        saved = {"trainer": weakref.proxy(self)}
        if self.average is not None:
            saved["ema"] = self.average
        self.checkpointer = SafeCheckpointer.of_config(cfg, model, **saved)
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.register_hooks(self.build_hooks())

    def resume_or_load(self, resume: bool = True) -> None:
        """As in `DefaultTrainer`; the data stream goes on where the checkpoint stands."""
        super().resume_or_load(resume)
        if self.start_iter > 0:
            self._trainer.seed = self.seed
            self._trainer.reset_data_loader(self._build_seeded_loader)
            if self.average is not None and self.average.num_updates == 0:
                logger.warning("The checkpoint has no averages (SOLVER.EMA): they start anew")

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

    def build_hooks(self) -> list[hooks.HookBase]:
        """`DefaultTrainer`'s hooks, the best checkpoint, and writers with our period.

        What is evaluated are the averages of the weights where SOLVER.EMA.ENABLED.
        """
        cfg = self.cfg
        built = [
            hooks.EvalHook(cfg.TEST.EVAL_PERIOD, self._evaluate)
            if isinstance(hook, hooks.EvalHook)
            else hook
            for hook in super().build_hooks()
            if not isinstance(hook, hooks.PeriodicWriter)
        ]
        if comm.is_main_process():
            if cfg.SOLVER.BEST_METRIC:
                best = BestCheckpointer(
                    cfg.TEST.EVAL_PERIOD,
                    self.checkpointer,
                    cfg.SOLVER.BEST_METRIC,
                    cfg.SOLVER.BEST_METRIC_MODE,
                )
                built.append(best)
            built.append(hooks.PeriodicWriter(self.build_writers(), cfg.SOLVER.LOG_PERIOD))
        return built

    def build_writers(self) -> list[EventWriter]:
        return writers(self.cfg.OUTPUT_DIR, self.max_iter)

    def state_dict(self) -> dict:
        return super().state_dict() | {"seed": self.seed}

    def load_state_dict(self, state_dict: dict) -> None:
        super().load_state_dict(state_dict)
        self.seed = state_dict.get("seed", self.seed)

    def _evaluate(self) -> dict:
        with averages_in_place(self.average):
            self._last_eval_results = self.test(self.cfg, self.model)
        return self._last_eval_results

    def _build_seeded_loader(self) -> torch.utils.data.DataLoader:
        mapper = build_mapper(self.cfg, is_train=True)
        return build_train_loader(self.cfg, mapper, seed=self.seed, start_iter=self.start_iter)

    @classmethod
    def test(
        cls,
        cfg: CfgNode,
        model: nn.Module,
        evaluators: list[DatasetEvaluator] | None = None,
    ) -> dict:
        """As in `DefaultTrainer`, with test-time augmentation where TEST.AUG.ENABLED."""
        share_buffers(model)
        return super().test(cfg, with_test_time_augmentation(cfg, model), evaluators)

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        check_registered_parts(cfg)
        return super().build_model(cfg)

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        return build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(
        cls, cfg: CfgNode, optimizer: torch.optim.Optimizer
    ) -> torch.optim.lr_scheduler.LRScheduler:
        return build_lr_scheduler(cfg, optimizer)

    @classmethod
    def build_train_loader(cls, cfg: CfgNode) -> torch.utils.data.DataLoader:
        """A loader beside the training stream, e.g. for precise BatchNorm statistics."""
        return build_train_loader(cfg, build_mapper(cfg, is_train=True), seed=max(cfg.SEED, 0))

    @classmethod
    def build_test_loader(cls, cfg: CfgNode, dataset_name: str) -> torch.utils.data.DataLoader:
        return build_test_loader(cfg, dataset_name, build_mapper(cfg, is_train=False))

    @classmethod
    def build_evaluator(cls, cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
        evaluators = build_evaluators(cfg, dataset_name)
        if cfg.TEST.NUM_PICTURES > 0:
            folder = os.path.join(cfg.OUTPUT_DIR, "inference", dataset_name)
            evaluators.append(PictureWriter(dataset_name, folder, cfg.TEST.NUM_PICTURES))
        return MergedEvaluators(evaluators)


def parallel(model: nn.Module, **options) -> nn.Module:
    """Wrap in DDP where there are several processes; on the CPU, DDP wants no device ids.

    Args:
        model: on its device.
        options: of `DistributedDataParallel`.
    """
    if not next(model.parameters()).is_cuda:
        options["device_ids"] = None
    return create_ddp_model(model, **({"broadcast_buffers": False} | options))


def save_last_finished(trainer: TrainerBase) -> None:
    """Write a checkpoint of the iteration before the one at hand, if this run finished it."""
    if trainer.iter > trainer.start_iter:
        trainer.iter -= 1
        trainer.checkpointer.save(f"model_{trainer.iter:07d}", iteration=trainer.iter)
        trainer.iter += 1  # Detectron2's writers divide by the iterations since their last line


def share_buffers(model: nn.Module) -> None:
    """Give all processes the main one's statistics of plain BatchNorm: checkpoints hold those."""
    if comm.get_world_size() > 1:
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, src=0)


def writers(output_dir: str, max_iter: int) -> list[EventWriter]:
    """Detectron2's writers; metrics.json holds values as they were, not medians over 20."""
    os.makedirs(output_dir, exist_ok=True)
    return [
        CommonMetricPrinter(max_iter),
        JSONWriter(os.path.join(output_dir, "metrics.json"), window_size=1),
        TensorboardXWriter(output_dir),
    ]
