"""Training hooks that Detectron2 lacks."""

import json
from pathlib import Path

from detectron2.engine import hooks

from ..utils.files import atomic_write, read_json
from .checkpointer import BEST_CHECKPOINT

__all__ = ["BestCheckpointer"]


class BestCheckpointer(hooks.BestCheckpointer):
    """Detectron2's hook, whose best figure also stands in a file and survives a restart."""

    def before_train(self) -> None:
        if self.trainer.start_iter > 0 and self._checkpoint.is_file() and self._record.is_file():
            record = read_json(self._record)
            if record["metric"] == self._val_metric:
                self.best_metric, self.best_iter = record["value"], record["iteration"]

    def _best_checking(self) -> None:
        best_before = self.best_iter
        super()._best_checking()
        if self.best_iter != best_before:
            record = {
                "metric": self._val_metric,
                "value": self.best_metric,
                "iteration": self.best_iter,
            }
            atomic_write(self._record, lambda stream: stream.write(json.dumps(record).encode()))

    @property
    def _checkpoint(self) -> Path:
        return Path(self._checkpointer.save_dir) / f"{BEST_CHECKPOINT}.pth"

    @property
    def _record(self) -> Path:
        return self._checkpoint.with_suffix(".json")
