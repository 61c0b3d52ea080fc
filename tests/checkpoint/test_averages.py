"""Averages in checkpoints take the place of weights."""

import pytest
import torch

from metaprompt_d2.checkpoint import use_averages
from metaprompt_d2.utils.errors import InputError

WEIGHTS = {"a": torch.zeros(2), "b": torch.ones(3)}


def content(**averages: torch.Tensor) -> dict:
    return {"model": WEIGHTS, "ema": {"num_updates": 3, "averages": averages}}


def test_averages_replace_the_weights_of_their_names() -> None:
    found = use_averages(WEIGHTS, content(a=torch.full((2,), 5.0)))
    assert found["a"].tolist() == [5, 5] and found["b"] is WEIGHTS["b"]
    found = use_averages(WEIGHTS, content(**{"module._orig_mod.b": torch.full((3,), 7.0)}))
    assert found["b"].tolist() == [7, 7, 7] and found.keys() == WEIGHTS.keys()


@pytest.mark.parametrize("loaded", [{}, {"ema": {}}, {"ema": {"averages": {}}}, {"ema": 3}])
def test_a_checkpoint_may_have_none(loaded: dict) -> None:
    assert use_averages(WEIGHTS, loaded) is None


def test_averages_of_another_model_are_an_error() -> None:
    with pytest.raises(InputError, match=r"2 averages \(EMA\) have no weight.*\n  a\n  c"):
        use_averages(WEIGHTS, content(a=torch.zeros(5), c=torch.zeros(2)))
