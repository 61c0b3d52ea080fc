"""Freed memory stays with the process."""

import platform
import subprocess
import sys
from pathlib import Path

import pytest

from metaprompt_d2.utils import allocator

# Page faults of 20 requests of 16 MiB, each of which is written and freed.
COUNT_FAULTS = """
import ctypes, resource, runpy, sys
functions = runpy.run_path("metaprompt_d2/utils/allocator.py")
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
assert sys.argv[1] != "keep" or functions["keep_freed_memory"]()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    memory = [libc.malloc(2**24) for _ in range(4)]
    for start in memory:
        libc.memset(start, 1, 2**24)
    for start in memory:
        libc.free(start)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def count_faults(argument: str) -> int:
    return int(
        subprocess.run(
            [sys.executable, "-c", COUNT_FAULTS, argument],
            cwd=Path(__file__).resolve().parents[2],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries lack mallopt")
def test_freed_memory_is_reused_without_page_faults() -> None:
    page, size, rounds = 4096, 4 * 2**24, 20
    assert count_faults("keep") < 2 * size / page
    assert count_faults("plain") > rounds / 2 * size / page


def test_other_systems_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator.sys, "platform", "darwin")
    assert not allocator.keep_freed_memory()
