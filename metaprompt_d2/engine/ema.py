"""Exponential moving averages of the trained weights."""

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from ..checkpoint import AVERAGES, match_names
from ..utils.errors import InputError

logger = logging.getLogger(__name__)


class WeightAverage:
    """Averages of a model's trainable parameters, without a copy of anything else.

    The first update copies the weights. The n-th one after it uses the decay min(decay,
    (1 + n) / (10 + n)), so the averages of a young training don't lag behind. Buffers aren't
    averaged: BatchNorm's running statistics are averages already, and are used as they are.

    diffusers' `EMAModel` has the same decays, but updates and evaluations copy all trained weights,
    its first average isn't exactly the weights, and its state has no names to check.
    """

    def __init__(self, model: nn.Module, decay: float):
        """
        Args:
            model: Model, not wrapped by DDP.
            decay: Largest decay, at least 0 and less than 1. Other values raise InputError.
        """
        if not 0 <= decay < 1:
            raise InputError(f"decay is {decay}, expected a number in [0, 1)")
        self.decay = decay
        self.num_updates = 0
        self._averages: dict[str, Tensor] = {}
        named = dict(model.named_parameters())
        self._weights = {name: p for name, p in named.items() if p.requires_grad}
        self._frozen = {name: p for name, p in named.items() if not p.requires_grad}

    @torch.no_grad()
    def update(self) -> None:
        """Average in the weights after an optimizer step."""
        if self.num_updates == 0:
            self._averages = {name: weight.clone() for name, weight in self._weights.items()}
        else:
            decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
            averages, weights = list(self._averages.values()), list(self._weights.values())
            get_ema_multi_avg_fn(decay)(averages, weights, None)
        self.num_updates += 1

    def swap(self) -> None:
        """Swap the averages and the model's weights without copying; a second call swaps back."""
        for name, average in self._averages.items():
            weight = self._weights[name]
            self._averages[name], weight.data = weight.data, average

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Replace the model's weights by the averages within a context."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    def state_dict(self) -> dict[str, Any]:
        return {"num_updates": self.num_updates, "averages": dict(self._averages)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load averages. Those of other parameters or shapes raise InputError, with all listed.

        Averages of frozen weights are dropped if they are these weights.
        """
        known = self._weights | self._frozen
        given = {
            name: average
            for name, average in match_names(state_dict["averages"], {n: n for n in known}).items()
            if name not in self._frozen or not torch.equal(average.cpu(), self._frozen[name].cpu())
        }
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


def load_averages(model: nn.Module, loaded: Mapping[str, Any], key: str) -> None:
    """Replace a model's weights by the averages in a checkpoint's content; warn if it has none.

    Args:
        model: Model with the checkpoint's weights.
        loaded: Content of the checkpoint.
        key: Config key that asks for averages.
    """
    state = loaded.get(AVERAGES)
    if not isinstance(state, Mapping) or not state.get("averages"):
        logger.warning("There are no averages to load (%s): using the weights themselves", key)
        return
    average = WeightAverage(model, decay=0.0)
    average.load_state_dict(dict(state))
    average.swap()
    logger.info("Using the averages of %d updates (%s)", average.num_updates, key)
