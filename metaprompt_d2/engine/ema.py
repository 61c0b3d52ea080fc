"""Exponential moving averages of the trained weights."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ..utils.errors import InputError

__all__ = ["WeightAverage", "averages_in_place", "take_averages"]

logger = logging.getLogger(__name__)


class WeightAverage:
    """Averages of a model's trainable parameters, without a copy of anything else.

    The first update copies the weights; the n-th after it has the decay min(decay,
    (1 + n) / (10 + n)), so that averages of a young training don't lag behind (as in TensorFlow's
    ExponentialMovingAverage). Buffers are not averaged: the model's own, such as BatchNorm's
    running statistics, are averages already, and are used as they are.

    `torch.optim.swa_utils.AveragedModel` would copy the whole model, the frozen parts too.
    """

    def __init__(self, model: nn.Module, decay: float):
        """
        Args:
            model: not wrapped by DDP.
            decay: in [0, 1).

        Raises:
            InputError: a decay outside of it.
        """
        if not 0 <= decay < 1:
            raise InputError(f"SOLVER.EMA.DECAY is {decay}, expected a number in [0, 1)")
        self.decay = decay
        self.num_updates = 0
        self._averages: dict[str, Tensor] = {}
        self._weights = {
            name: parameter
            for name, parameter in model.named_parameters()
            if parameter.requires_grad
        }

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights after an optimizer step."""
        if self.num_updates == 0:
            self._averages = {name: weight.clone() for name, weight in self._weights.items()}
        else:
            decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
            average = get_ema_multi_avg_fn(decay)
            average(list(self._averages.values()), list(self._weights.values()), None)
        self.num_updates += 1

    def swap(self) -> None:
        """Exchange the averages and the model's weights, without copies; again: back."""
        for name, average in self._averages.items():
            weight = self._weights[name]
            self._averages[name], weight.data = weight.data, average

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The model has the averages for weights meanwhile."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    def state_dict(self) -> dict[str, Any]:
        return {"num_updates": self.num_updates, "averages": dict(self._averages)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """
        Raises:
            InputError: averages of other parameters, or of other shapes; all are listed.
        """
        given = state_dict["averages"]
        shapes = {name: tuple(weight.shape) for name, weight in self._weights.items()}
        problems = [
            f"{name}: {tuple(given[name].shape) if name in given else 'no average'} in the file, "
            f"{shapes.get(name, 'not trained')} in the model"
            for name in sorted(shapes.keys() | given.keys())
            if name not in given or shapes.get(name) != tuple(given[name].shape)
        ]
        if given and problems:
            raise InputError(
                f"averages (SOLVER.EMA) do not fit the model, {len(problems)} differ:\n  "
                + "\n  ".join(problems)
            )
        self.num_updates = state_dict["num_updates"]
        self._averages = {
            name: torch.empty_like(self._weights[name].data).copy_(average)
            for name, average in given.items()
        }


def averages_in_place(average: WeightAverage | None) -> AbstractContextManager:
    """The context in which a model in training is evaluated: with its averages, if it has some."""
    return nullcontext() if average is None else average.applied()


def take_averages(model: nn.Module, loaded: Mapping[str, Any], decay: float) -> None:
    """Put a checkpoint's averages in the place of a model's weights; a warning if it has none.

    Args:
        model: with the checkpoint's weights.
        loaded: what else the checkpoint holds.
        decay: of the averages.
    """
    if "ema" not in loaded:
        logger.warning("There are no averages to load (EMA): using the weights themselves")
        return
    average = WeightAverage(model, decay)
    average.load_state_dict(loaded["ema"])
    average.swap()
    logger.info("Using the averages of %d updates (EMA)", average.num_updates)
