"""What trainings from a YAML config and from a LazyConfig share: all but how the parts are made."""

import logging
import os
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.engine import create_ddp_model, hooks
from detectron2.utils import comm
from detectron2.utils.events import (
    CommonMetricPrinter,
    EventWriter,
    JSONWriter,
    TensorboardXWriter,
)
from torch import nn

from .checkpointer import SafeCheckpointer
from .ema import WeightAverage, averages_in_place
from .hooks import BestCheckpointer
from .train_loop import TrainLoop

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class TrainingSettings:
    """How to train, whichever kind of config says so.

    Attributes:
        output_dir: Folder of checkpoints and logs.
        init_checkpoint: Checkpoint to start from; "" for the diffusion weights.
        seed: Seed of the data's order, augmentation and dropout; negative for a random one.
        max_iter: Number of iterations.
        eval_period: Iterations between two evaluations; 0 for one at the end.
        checkpoint_period: Iterations between two checkpoints.
        max_to_keep: Number of checkpoints that are kept; None for all.
        log_period: Iterations between two log lines.
        best_metric: Metric whose best checkpoint is kept, such as "sem_seg/mIoU"; "" for none.
        best_metric_mode: "max" or "min".
        accumulation_steps, amp_dtype, max_grad_norm: As in `TrainLoop`.
        ema_decay: Decay of the weights' averages; None for no averages.
        ddp: Arguments of `DistributedDataParallel`.
    """

    output_dir: str
    init_checkpoint: str
    seed: int
    max_iter: int
    eval_period: int
    checkpoint_period: int
    max_to_keep: int | None = None
    log_period: int
    best_metric: str
    best_metric_mode: str
    accumulation_steps: int
    amp_dtype: torch.dtype | None
    max_grad_norm: float | None
    ema_decay: float | None
    ddp: Mapping[str, Any]


class BaseTrainer(TrainLoop, ABC):
    """Training that resumes exactly, evaluates, and keeps checkpoints.

    A subclass makes the parts from its kind of config, `build_loader` and `evaluate` included.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        scheduler: torch.optim.lr_scheduler.LRScheduler,
        checkpointer: SafeCheckpointer,
    ):
        """
        Args:
            settings: How to train.
            model: Model on its device, not wrapped by DDP.
            optimizer: Optimizer of the model.
            scheduler: Learning rate schedule, stepped after every iteration.
            checkpointer: Checkpointer of the model.
        """
        self.settings = settings
        seed = settings.seed if settings.seed >= 0 else comm.shared_random_seed()
        decay = settings.ema_decay
        super().__init__(
            _wrap_in_ddp(model, settings.ddp),
            self.build_loader(seed, start_iter=0),
            optimizer,
            seed=seed,
            accumulation_steps=settings.accumulation_steps,
            amp_dtype=settings.amp_dtype,
            max_grad_norm=settings.max_grad_norm,
            average=None if decay is None else WeightAverage(model, decay),
        )
        self.max_iter = settings.max_iter
        self.scheduler = scheduler
        self.checkpointer = checkpointer
        checkpointer.add_checkpointable("trainer", weakref.proxy(self))
        if self.average is not None:
            checkpointer.add_checkpointable("ema", self.average)
        self._last_eval_results: dict[str, Any] = {}
        self.register_hooks(self.build_hooks())

    @abstractmethod
    def build_loader(self, seed: int, start_iter: int) -> Iterable[list[dict]]:
        """Build the loader of the training.

        Args:
            seed: Seed of the data's order and augmentation.
            start_iter: Iteration whose batch comes first.
        """

    @abstractmethod
    def evaluate(self) -> dict[str, Any]:
        """Evaluate the model as it is; returns the metrics on the main process."""

    def resume_or_load(self, resume: bool = True) -> None:
        """Load the last checkpoint of the output folder, or the one to start from.

        Args:
            resume: Continue the training of the last checkpoint, if there is one, with the batch
                after its iteration.
        """
        self.checkpointer.resume_or_load(self.settings.init_checkpoint, resume=resume)
        if resume and self.checkpointer.has_checkpoint():
            self.start_iter = self.iter + 1  # checkpoints hold the iteration that was finished
            self.reset_data_loader(lambda: self.build_loader(self.seed, self.start_iter))
            if self.average is not None and self.average.num_updates == 0:
                logger.warning("The checkpoint has no averages (EMA); they start from its weights")

    def train(self) -> dict[str, Any]:
        """Train up to the last iteration.

        Returns:
            Metrics of the last evaluation on the main process, an empty dict on the others.
        """
        super().train(self.start_iter, self.max_iter)
        return self._last_eval_results

    def build_hooks(self) -> list[hooks.HookBase | None]:
        """Build the hooks: schedule, checkpoints, evaluation, best checkpoint and log.

        The order matters: an evaluation that fails leaves a checkpoint, and the best checkpoint and
        the log need its results. None stands for a hook that this process doesn't need.
        """
        settings, on_main = self.settings, comm.is_main_process()
        return [
            hooks.IterationTimer(),
            hooks.LRScheduler(),
            hooks.PeriodicCheckpointer(
                self.checkpointer, settings.checkpoint_period, max_to_keep=settings.max_to_keep
            )
            if on_main
            else None,
            hooks.EvalHook(settings.eval_period, self._evaluate_averages),
            BestCheckpointer(
                settings.eval_period,
                self.checkpointer,
                settings.best_metric,
                settings.best_metric_mode,
            )
            if on_main and settings.best_metric
            else None,
            hooks.PeriodicWriter(self.build_writers(), settings.log_period) if on_main else None,
        ]

    def build_writers(self) -> list[EventWriter]:
        """Build Detectron2's writers; metrics.json holds plain values, not medians over 20."""
        folder = self.settings.output_dir
        os.makedirs(folder, exist_ok=True)
        return [
            CommonMetricPrinter(self.max_iter),
            JSONWriter(os.path.join(folder, "metrics.json"), window_size=1),
            TensorboardXWriter(folder),
        ]

    def save_last_finished(self) -> None:
        """Write a checkpoint of the iteration before the one at hand, if this run finished it."""
        if self.iter > self.start_iter:
            self.iter -= 1
            self.checkpointer.save(f"model_{self.iter:07d}", iteration=self.iter)
            self.iter += 1  # Detectron2's writers count the iterations since their last line

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # Trainings from YAML once nested the state of the loop.
        super().load_state_dict(state_dict.get("_trainer", {}) | state_dict)

    def _evaluate_averages(self) -> dict[str, Any]:
        with averages_in_place(self.average):
            self._last_eval_results = self.evaluate()
        return self._last_eval_results


def _wrap_in_ddp(model: nn.Module, options: Mapping[str, Any]) -> nn.Module:
    """Wrap a model in DDP if there are several processes; on a CPU, DDP accepts no device ids."""
    on_gpu = next(model.parameters()).is_cuda
    return create_ddp_model(model, **({} if on_gpu else {"device_ids": None}), **options)
