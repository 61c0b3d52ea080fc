"""What trainings from a YAML config and from a LazyConfig share: all but how the parts are made."""

import logging
import os
import warnings
import weakref
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from detectron2.engine import create_ddp_model, hooks
from detectron2.utils import comm
from detectron2.utils.events import (
    CommonMetricPrinter,
    EventWriter,
    TensorboardXWriter,
)
from omegaconf import DictConfig
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ..checkpoint import AVERAGES
from ..diffusion.speedups import optimize_for_training
from ..utils.errors import InputError
from ..utils.precision import half_precision
from .checkpointer import SafeCheckpointer
from .ema import WeightAverage
from .evaluation import finite_metrics, report_unknown_metric
from .frozen_weights import convert_frozen_weights
from .hooks import BestCheckpointer, StatelessLRScheduler, WriteLosses
from .metrics_file import MetricsFile
from .stop import TrainingStopped
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
        device = next(model.parameters()).device
        device_ids = [device] if device.type == "cuda" else None  # DDP accepts none on a CPU
        super().__init__(
            create_ddp_model(model, device_ids=device_ids, **settings.ddp),
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
            checkpointer.add_checkpointable(AVERAGES, self.average)
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

        Learning rates and all other settings are those of the config, as if it had been the config
        from the first iteration on. The random seed is the checkpoint's.

        Args:
            resume: Whether to continue the training of the last checkpoint, if there is one, with
                the batch after its iteration.

        Raises:
            InputError: The checkpoint doesn't fit, or has finished more iterations than the config
                asks for.
        """
        self.checkpointer.resume_or_load(self.settings.init_checkpoint, resume=resume)
        if resume and self.checkpointer.has_checkpoint():
            self.start_iter = self.iter + 1  # checkpoints hold the iteration that was finished
            if self.start_iter > self.max_iter:
                raise InputError(
                    f"the checkpoint to resume from has finished {self.start_iter} iterations, "
                    f"more than SOLVER.MAX_ITER (train.max_iter) {self.max_iter}"
                )
            if 0 <= self.settings.seed != self.seed:
                logger.warning(
                    "SEED is %d, but the training continues with the checkpoint's seed %d",
                    self.settings.seed,
                    self.seed,
                )
            self._advance_schedule()
            self.reset_data_loader(lambda: self.build_loader(self.seed, self.start_iter))
            if self.average is not None and self.average.num_updates == 0:
                logger.warning("The checkpoint has no averages (EMA); they start from its weights")

    def train(self) -> dict[str, Any]:
        """Train up to the last iteration.

        Returns:
            Metrics of the last evaluation on the main process, an empty dict on the others.

        Raises:
            TrainingStopped: SIGTERM or SIGINT asked the training to stop. It ended the iteration,
                or broke off an evaluation, and wrote a checkpoint. A second signal doesn't wait.
        """
        with self.signals.handled():
            try:
                super().train(self.start_iter, self.max_iter)
            except TrainingStopped:
                checkpoint = self.checkpointer.get_checkpoint_file()
                raise TrainingStopped(
                    f"stopped by a signal; --resume continues from {checkpoint or 'its start'}"
                ) from None
        return self._last_eval_results

    def after_step(self) -> None:
        """Run the hooks. If the training has to stop, write a checkpoint and stop."""
        try:
            super().after_step()
            # Several processes stop where all of them know of it.
            alone = comm.get_world_size() == 1
            must_stop = self.signals.requested if alone else self.must_stop
            if must_stop and self.iter + 1 < self.max_iter:
                raise TrainingStopped
        except TrainingStopped:
            name = f"model_{self.iter:07d}"
            if Path(self.checkpointer.get_checkpoint_file()).stem != name:
                self.checkpointer.save(name, iteration=self.iter)
            comm.synchronize()  # none ends before the checkpoint is written
            raise

    def build_hooks(self) -> list[hooks.HookBase]:
        """Build the hooks: schedule, checkpoints, evaluation, best checkpoint and log.

        The order matters: an evaluation that fails leaves a checkpoint and the losses before it,
        and the best checkpoint and the log need its results.
        """
        settings, on_main = self.settings, comm.is_main_process()
        built = [hooks.IterationTimer(), StatelessLRScheduler()]
        writers = self.build_writers() if on_main else []
        if on_main:
            files = [writer for writer in writers if isinstance(writer, MetricsFile)]
            built.append(WriteLosses(files, settings.log_period))
            built.append(hooks.PeriodicCheckpointer(self.checkpointer, **settings.checkpointer))
        built.append(hooks.EvalHook(settings.eval_period, self._evaluate_averages))
        if on_main and settings.best_metric.name:
            best = settings.best_metric
            built.append(
                BestCheckpointer(settings.eval_period, self.checkpointer, best.name, best.mode)
            )
        if on_main:
            built.append(hooks.PeriodicWriter(writers, settings.log_period))
        return built

    def build_writers(self) -> list[EventWriter]:
        """Build the writers of the log, of metrics.json and of TensorBoard."""
        folder = self.settings.output_dir
        os.makedirs(folder, exist_ok=True)
        return [
            CommonMetricPrinter(self.max_iter),
            MetricsFile(os.path.join(folder, "metrics.json")),
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

    def _advance_schedule(self) -> None:
        """Step the schedule to the first iteration; only this is right for every kind of it."""
        with warnings.catch_warnings():
            # torch expects a step of the optimizer first
            warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
            while self.scheduler.last_epoch < self.start_iter:
                self.scheduler.step()

    def _evaluate_averages(self) -> dict[str, Any]:
        averages = nullcontext() if self.average is None else self.average.applied()
        with self.signals.interrupting(), averages:
            self._last_eval_results = self.evaluate()
        report_unknown_metric(self.settings.best_metric.name, self._last_eval_results)
        return finite_metrics(self._last_eval_results)
