"""Stop a training by SIGTERM or SIGINT (Ctrl-C) between two iterations."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

# Ctrl-C in a terminal reaches a process twice: directly, and through the process that started it.
_ONE_REQUEST = 2.0  # seconds


class TrainingStopped(KeyboardInterrupt):
    """A signal stopped the training. The message names the checkpoint to resume from."""


class StopSignals:
    """Remembers a SIGTERM or SIGINT instead of dying of it, within `handled()`.

    A second signal ends the process at once.
    """

    def __init__(self) -> None:
        self.requested = False
        self._time = 0.0
        self._interrupts = False
        self._process = os.getpid()

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Handle the signals in a context; outside of the main thread it changes nothing."""
        self.requested = False
        previous = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                handler = signal.getsignal(number)
                if not callable(handler) or handler is signal.default_int_handler:
                    previous[number] = signal.signal(number, self._receive)
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    @contextmanager
    def interrupting(self) -> Iterator[None]:
        """Let a signal raise `TrainingStopped` at once, for work that may take long."""
        self._interrupts = True
        try:
            if self.requested:
                raise TrainingStopped
            yield
        finally:
            self._interrupts = False

    def _receive(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a forked worker, which its parent ends
            return
        now = time.monotonic()
        if self.requested and now - self._time > _ONE_REQUEST:
            raise KeyboardInterrupt
        self._time = self._time if self.requested else now
        self.requested = True
        if self._interrupts:
            self._interrupts = False
            raise TrainingStopped
