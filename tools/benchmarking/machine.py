"""Clocks, peak memory and speed of the machine."""

import ctypes
import os
import platform
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch

__all__ = ["PeakMemory", "describe", "matmul_ceiling", "seconds"]

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")


def seconds(call: Callable[[], object], device: torch.device) -> float:
    """Measure the wall time of a call and of the work that it starts on the device."""
    _synchronize(device)
    start = time.perf_counter()
    call()
    _synchronize(device)
    return time.perf_counter() - start


def matmul_ceiling(device: torch.device, dtype: torch.dtype) -> float:
    """Measure the FLOP/s of a large matrix product, the fastest of several.

    Processors without instructions for half precision are a hundred times slower in it, so the
    size grows only until a product takes 0.1 s.
    """
    size, largest = 256, 8192 if device.type == "cuda" else 2048
    while (fastest := _time_product(size, device, dtype)) < 0.1 and size < largest:
        size *= 2
    return 2 * size**3 / fastest


def _time_product(size: int, device: torch.device, dtype: torch.dtype) -> float:
    left, right = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    return min(seconds(lambda: left @ right, device) for _ in range(10))


class PeakMemory:
    """Measures the peak memory of a call in bytes, in addition to the memory in use before.

    It is the allocator's count on a GPU, and the resident set on a CPU, if Linux tells its peak.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self.growth: int | None = None

    def __enter__(self) -> "PeakMemory":
        _synchronize(self.device)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before = torch.cuda.memory_allocated(self.device)
            return self
        with suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)  # memory that earlier calls freed
        self._before = None
        with suppress(OSError):
            _CLEAR.write_text("5")  # resets the peak, proc(5)
            self._before = _status_bytes("VmRSS")
        return self

    def __exit__(self, *_: object) -> None:
        _synchronize(self.device)
        if self.device.type == "cuda":
            self.growth = torch.cuda.max_memory_allocated(self.device) - self._before
        elif self._before is not None:
            self.growth = _status_bytes("VmHWM") - self._before


def describe(device: torch.device) -> dict[str, str | int]:
    """Describe the machine for the head of a report."""
    result: dict[str, str | int] = {
        "torch": torch.__version__,
        "python": platform.python_version(),
        "threads": torch.get_num_threads(),
        "load_average": round(os.getloadavg()[0], 2),
    }
    if device.type == "cuda":
        return result | {"device": torch.cuda.get_device_name(device)}
    names = [
        line.split(":", 1)[1].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if line.startswith("model name")
    ]
    return result | {
        "device": names[0] if names else platform.processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }


def _status_bytes(key: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{_STATUS} has no {key}")


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
