"""Images a second that a config's training loader gives."""

import time

from detectron2.config import CfgNode

from metaprompt_d2.data import build_mapper, build_train_loader

__all__ = ["loader_rate"]


def loader_rate(cfg: CfgNode, *, seconds: float, warm_up: int = 2) -> dict[str, float]:
    """Images a second from disk to batch, with DATALOADER.NUM_WORKERS workers.

    Args:
        cfg: of training.
        seconds: to measure for, at least one batch.
        warm_up: batches before, in which the workers start.

    Returns:
        "images_per_second", "workers", "batches" measured.
    """
    loader = iter(build_train_loader(cfg, build_mapper(cfg, is_train=True), seed=max(cfg.SEED, 0)))
    # What workers prepared ahead must not count as made in the measured time.
    workers = cfg.DATALOADER.NUM_WORKERS
    for _ in range(warm_up + 2 * workers):
        next(loader)
    images, batches, start = 0, 0, time.perf_counter()
    while not batches or time.perf_counter() - start < seconds:
        images += len(next(loader))
        batches += 1
    elapsed = time.perf_counter() - start
    return {"images_per_second": images / elapsed, "workers": workers, "batches": batches}
