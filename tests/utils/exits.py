"""What a process does at its end, but not its forks."""

import atexit
import os
from collections.abc import Callable


def register_at_exit(function: Callable[[], object]) -> None:
    """Call the function when this process ends.

    A fork, such as a process of a launch, has all functions of `atexit`: there it isn't called.
    """
    owner = os.getpid()

    def call_in_owner() -> None:
        if os.getpid() == owner:
            function()

    atexit.register(call_in_owner)
