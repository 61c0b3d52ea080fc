"""Speed of a config's training loader."""

import time
from collections.abc import Iterator

from detectron2.config import CfgNode

from metaprompt_d2.data import build_mapper, build_train_loader

__all__ = ["loader_rate"]

_BATCH = 8  # images; larger batches have the same rate but take long to start


def loader_rate(cfg: CfgNode, *, seconds: float, warm_up: int = 2) -> dict[str, float]:
    """Measure the images per second from disk to batch, with DATALOADER.NUM_WORKERS workers.

    Args:
        cfg: Config of the training.
        seconds: Seconds to measure, half of them wall time and half CPU time.
        warm_up: Batches to load before, while the workers start.

    Returns:
        "images_per_second", "workers", "batches" measured, and "images_per_core_second", the images
        per second of CPU time in one process without workers.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.SOLVER.IMS_PER_BATCH = min(cfg.SOLVER.IMS_PER_BATCH, _BATCH)
    cfg.SOLVER.ACCUMULATION_STEPS = 1
    loader = _started(cfg, warm_up)
    images, batches, start = 0, 0, time.perf_counter()
    while not batches or time.perf_counter() - start < seconds / 2:
        images += len(next(loader))
        batches += 1
    elapsed = time.perf_counter() - start
    workers = cfg.DATALOADER.NUM_WORKERS
    del loader  # ends its workers
    return {
        "images_per_second": images / elapsed,
        "images_per_core_second": _core_rate(cfg, seconds),
        "workers": workers,
        "batches": batches,
    }


def _started(cfg: CfgNode, warm_up: int) -> Iterator[list[dict]]:
    loader = iter(build_train_loader(cfg, build_mapper(cfg, is_train=True), seed=max(cfg.SEED, 0)))
    # Batches that workers prefetched must not count as loaded in the measured time.
    for _ in range(warm_up + 2 * cfg.DATALOADER.NUM_WORKERS):
        next(loader)
    return loader


def _core_rate(cfg: CfgNode, seconds: float) -> float:
    """Measure images per second of CPU time, which hardly depends on other processes."""
    cfg.DATALOADER.NUM_WORKERS = 0
    loader = _started(cfg, warm_up=1)
    images, start = 0, time.process_time()
    while not images or time.process_time() - start < seconds / 2:
        images += len(next(loader))
    return images / (time.process_time() - start)
