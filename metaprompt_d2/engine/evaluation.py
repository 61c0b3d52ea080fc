"""Evaluation of a model that several processes hold, and checks of its results."""

import logging
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.evaluation import (
    DatasetEvaluator,
    inference_on_dataset,
    print_csv_format,
    verify_results,
)
from detectron2.evaluation.testing import flatten_results_dict
from detectron2.utils import comm
from torch import nn

from ..utils.errors import InputError

logger = logging.getLogger(__name__)


def evaluate(model: nn.Module, loader: Any, evaluator: DatasetEvaluator) -> dict[str, Any]:
    """Evaluate a model, the same one in all processes, and log the results.

    Args:
        model: Model; unchanged afterwards.
        loader: Loader of this process's share of a dataset.
        evaluator: Evaluator of the dataset.

    Returns:
        Metrics by task on the main process, an empty dict on the others.
    """
    with _main_process_buffers(model):
        results = inference_on_dataset(model, loader, evaluator)
    if comm.is_main_process():
        print_csv_format(results)
    return results


def check_results(cfg: CfgNode, results: Mapping[str, Any]) -> None:
    """Compare the results of a test with TEST.EXPECTED_RESULTS, on the main process.

    Args:
        cfg: Config. With several test sets, tasks are named "<dataset>/<task>", or "<task>" for the
            first test set.
        results: What `Trainer.test` returned.

    Raises:
        SystemExit: A metric is missing, not finite or out of its tolerance; the status is 1.
        InputError: A task was not evaluated.
    """
    if not comm.is_main_process() or not cfg.TEST.EXPECTED_RESULTS:
        return
    by_task = dict(results)
    if len(cfg.DATASETS.TEST) > 1:
        by_task = {
            f"{name}/{task}": metrics
            for name, tasks in results.items()
            for task, metrics in tasks.items()
        } | dict(results[cfg.DATASETS.TEST[0]])
    for task, *_ in cfg.TEST.EXPECTED_RESULTS:
        if task not in by_task:
            raise InputError(
                f"TEST.EXPECTED_RESULTS names the task {task!r}, evaluated were {sorted(by_task)}"
            )
    verify_results(cfg, by_task)


def full_metric_name(name: str, datasets: Sequence[str]) -> str:
    """Complete "<task>/<metric>" by the first of several test sets, as results are then named."""
    is_full = any(name.startswith(f"{dataset}/") for dataset in datasets)
    return name if len(datasets) <= 1 or is_full or not name else f"{datasets[0]}/{name}"


def report_unknown_metric(name: str, results: Mapping[str, Any]) -> None:
    """Log that the best checkpoint isn't written because an evaluation lacks its metric."""
    known = sorted(flatten_results_dict(dict(results)))
    if name and known and name not in known:
        logger.error(
            "no best checkpoint is written: its metric %r (SOLVER.BEST_METRIC, train.best_metric) "
            "isn't among the results %s",
            name,
            known,
        )


def finite_metrics(results: Mapping[str, Any]) -> dict[str, float]:
    """Name metrics "<task>/<metric>" and leave out those that are NaN, which JSON cannot hold."""
    flat = flatten_results_dict(dict(results))
    return {name: float(value) for name, value in flat.items() if math.isfinite(value)}


@contextmanager
def _main_process_buffers(model: nn.Module) -> Iterator[None]:
    """Lend all processes the main one's buffers.

    In training each process has its own statistics of a plain BatchNorm. Checkpoints hold the main
    process's, so all processes evaluate with those, and get their own back afterwards.
    """
    if comm.get_world_size() == 1:
        yield
        return
    own = [(buffer, buffer.clone()) for buffer in model.buffers()]
    for buffer, _ in own:
        torch.distributed.broadcast(buffer, src=0)
    try:
        yield
    finally:
        for buffer, value in own:
            buffer.copy_(value)
