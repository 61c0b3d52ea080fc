"""`metrics.json`: one line of JSON for each logged iteration and each evaluation."""

import json
import os
from collections import defaultdict
from pathlib import Path

from detectron2.utils.events import EventWriter, get_event_storage

# They describe the progress; a line of nothing else says nothing about the training.
_PROGRESS = {"data_time", "eta_seconds", "lr", "time"}


class MetricsFile(EventWriter):
    """Appends the latest values to a file, with the iteration they belong to.

    Unlike Detectron2's `JSONWriter`, it can write an iteration's losses before its evaluation has
    results, so that a training that is killed in between has lost nothing.
    """

    def __init__(self, file: str | os.PathLike):
        """
        Args:
            file: File to append to. Half a line at its end, of a process that was killed while it
                wrote, is removed.
        """
        self._path = Path(file)
        self._path.touch()
        content = self._path.read_bytes()
        os.truncate(file, content.rfind(b"\n") + 1)
        self._written: dict[str, int] = {}

    def write(self) -> None:
        lines: dict[int, dict[str, float]] = defaultdict(dict)
        for name, (value, iteration) in get_event_storage().latest().items():
            if self._written.get(name, -1) < iteration:
                lines[iteration][name] = value
                self._written[name] = iteration
        text = "".join(
            json.dumps(values | {"iteration": iteration}, sort_keys=True) + "\n"
            for iteration, values in sorted(lines.items())
            if not values.keys() <= _PROGRESS
        )
        if not text:
            return
        with self._path.open("a") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
