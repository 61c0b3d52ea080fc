"""Exponential moving averages (EMA) in a checkpoint."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..utils.errors import InputError
from .names import match_names
from .versions import versions_of, with_versions

AVERAGES = "ema"  # key of the averages' state in a checkpoint


def use_averages(
    state_dict: Mapping[str, Tensor], loaded: Mapping[str, Any]
) -> dict[str, Tensor] | None:
    """Replace weights by their averages.

    Args:
        state_dict: Weights, without what wrappers of modules add to names.
        loaded: Content of the checkpoint.

    Returns:
        The state dict with the averages, or None if the checkpoint has none.

    Raises:
        InputError: There are averages of other names or shapes (all are listed).
    """
    state = loaded.get(AVERAGES)
    averages = state.get("averages") if isinstance(state, Mapping) else None
    if not averages:
        return None
    matched = match_names(averages, {name: name for name in state_dict})
    if problems := [
        name
        for name, value in matched.items()
        if name not in state_dict or state_dict[name].shape != value.shape
    ]:
        raise InputError(
            f"{len(problems)} averages (EMA) have no weight of their name and shape:\n  "
            + "\n  ".join(problems)
        )
    return with_versions({**state_dict, **matched}, versions_of(state_dict))
