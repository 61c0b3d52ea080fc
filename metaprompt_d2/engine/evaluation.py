"""Evaluation of a model that several processes hold."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset, print_csv_format
from detectron2.utils import comm
from torch import nn


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
