"""Let idle CPU threads sleep."""

import os

# The user's own setting wins: of the standard, of GCC's library, of Intel's.
_SETTINGS = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def set_wait_policy() -> None:
    """Let OpenMP's threads sleep while they wait, unless the environment says how they wait.

    By default they spin, which takes the cores from other processes: a training on CPUs became up
    to 8 times slower next to other work. Sleeping costs 16 % on a quiet machine (docs/training.md).
    The library reads the environment once, when torch is imported. Processes that are started later
    inherit it.
    """
    if not any(name in os.environ for name in _SETTINGS):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
