"""Training hooks that Detectron2 lacks."""

from pathlib import Path
from typing import Any

from detectron2.engine import hooks
from detectron2.utils.events import EventWriter

from ..utils.files import read_json, write_json
from .checkpointer import BEST_CHECKPOINT, SafeCheckpointer


class StatelessLRScheduler(hooks.LRScheduler):
    """Detectron2's hook without a state: a resumed schedule follows from the config at hand."""

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Ignore the schedule of a former checkpoint."""


class WriteLosses(hooks.HookBase):
    """Writes metrics before the checkpoint of an iteration, from which a killed run continues."""

    def __init__(self, writers: list[EventWriter], period: int):
        """
        Args:
            writers: Writers that may write one iteration twice.
            period: Number of iterations from one time to the next.
        """
        self._writers = writers
        self._period = period

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done % self._period == 0 or done == self.trainer.max_iter:
            for writer in self._writers:
                writer.write()


class BestCheckpointer(hooks.BestCheckpointer):
    """Detectron2's hook, which also writes the best value to a file and resumes from it."""

    def __init__(
        self, eval_period: int, checkpointer: SafeCheckpointer, metric: str, mode: str = "max"
    ):
        super().__init__(eval_period, checkpointer, metric, mode, BEST_CHECKPOINT)
        self._metric = metric
        self._checkpoint = Path(checkpointer.save_dir) / f"{BEST_CHECKPOINT}.pth"
        self._file = self._checkpoint.with_suffix(".json")
        self._written_iter: int | None = None

    def before_train(self) -> None:
        if self.trainer.start_iter > 0 and self._checkpoint.is_file() and self._file.is_file():
            best = read_json(self._file)
            if best["metric"] == self._metric:
                self.best_metric = best["value"]
                self.best_iter = self._written_iter = best["iteration"]

    def after_step(self) -> None:
        super().after_step()
        self._write()

    def after_train(self) -> None:
        super().after_train()
        self._write()

    def _write(self) -> None:
        if self.best_iter != self._written_iter:
            self._written_iter = self.best_iter
            best = {"metric": self._metric, "value": self.best_metric, "iteration": self.best_iter}
            write_json(best, self._file)
