"""What trainings from a YAML config and from a LazyConfig share: all but how the parts are made."""

import logging
import os
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import nullcontext
from typing import Any

from detectron2.engine import create_ddp_model, hooks
from detectron2.utils import comm
from detectron2.utils.events import (
    CommonMetricPrinter,
    EventWriter,
    JSONWriter,
    TensorboardXWriter,
)
from omegaconf import DictConfig
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ..diffusion.speedups import optimize_for_training
from ..utils.errors import InputError
from ..utils.precision import half_precision
from .checkpointer import SafeCheckpointer
from .ema import WeightAverage
from .evaluation import finite_metrics, report_unknown_metric
from .frozen_weights import convert_frozen_weights
from .hooks import BestCheckpointer
from .train_loop import TrainLoop

logger = logging.getLogger(__name__)


class BaseTrainer(TrainLoop, ABC):
    """Training that resumes exactly, evaluates, and keeps checkpoints.

    A subclass makes the parts from its kind of config, `build_loader` and `evaluate` included.
    """

    def __init__(
        self,
        settings: DictConfig,
        model: nn.Module,
        optimizer: Optimizer,
        scheduler: LRScheduler,
        checkpointer: SafeCheckpointer,
    ):
        """
        Args:
            settings: Keys of a LazyConfig's `train`, such as `training_settings` returns.
            model: Model on its device, not wrapped by DDP; changed for a fast training.
            optimizer: Optimizer of the model.
            scheduler: Learning rate schedule, stepped after every iteration.
            checkpointer: Checkpointer of the model.
        """
        self.settings = settings
        amp = settings.amp
        amp_dtype = half_precision(amp.dtype, "train.amp.dtype") if amp.enabled else None
        if amp.convert_frozen:
            if amp_dtype is None:
                raise InputError("train.amp.convert_frozen needs train.amp.enabled")
            convert_frozen_weights(model, amp_dtype)
        optimize_for_training(model, **settings.speed)
        seed = settings.seed if settings.seed >= 0 else comm.shared_random_seed()
        on_gpu = next(model.parameters()).is_cuda
        device_ids = {} if on_gpu else {"device_ids": None}  # DDP accepts none on a CPU
        super().__init__(
            create_ddp_model(model, **device_ids, **settings.ddp),
            self.build_loader(seed, start_iter=0),
            optimizer,
            seed=seed,
            accumulation_steps=settings.accumulation_steps,
            amp_dtype=amp_dtype,
            max_grad_norm=settings.max_grad_norm,
            average=WeightAverage(model, settings.ema.decay) if settings.ema.enabled else None,
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
            resume: Whether to continue the training of the last checkpoint, if there is one, with
                the batch after its iteration.
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

    def build_hooks(self) -> list[hooks.HookBase]:
        """Build the hooks: schedule, checkpoints, evaluation, best checkpoint and log.

        The order matters: an evaluation that fails leaves a checkpoint, and the best checkpoint and
        the log need its results.
        """
        settings, on_main = self.settings, comm.is_main_process()
        built = [hooks.IterationTimer(), hooks.LRScheduler()]
        if on_main:
            built.append(hooks.PeriodicCheckpointer(self.checkpointer, **settings.checkpointer))
        built.append(hooks.EvalHook(settings.eval_period, self._evaluate_averages))
        if on_main and settings.best_metric.name:
            best = settings.best_metric
            built.append(
                BestCheckpointer(settings.eval_period, self.checkpointer, best.name, best.mode)
            )
        if on_main:
            built.append(hooks.PeriodicWriter(self.build_writers(), settings.log_period))
        return built

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
        if self.iter > self.start_iter:  # this run has finished one
            self.iter -= 1
            self.checkpointer.save(f"model_{self.iter:07d}", iteration=self.iter)
            self.iter += 1  # Detectron2's writers count the iterations since their last line

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        # Trainings from YAML once nested the state of the loop.
        super().load_state_dict(state_dict.get("_trainer", {}) | state_dict)

    def _evaluate_averages(self) -> dict[str, Any]:
        with nullcontext() if self.average is None else self.average.applied():
            self._last_eval_results = self.evaluate()
        report_unknown_metric(self.settings.best_metric.name, self._last_eval_results)
        return finite_metrics(self._last_eval_results)
