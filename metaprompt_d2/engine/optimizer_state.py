"""Resume an optimizer: moments come from the checkpoint, settings from the config."""

import logging
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from ..utils.errors import InputError

logger = logging.getLogger(__name__)


def parameter_names(model: nn.Module, optimizer: Optimizer) -> list[str]:
    """Return the names of an optimizer's parameters, in the order of its state dict."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    parameters = enumerate(_parameters(optimizer))
    return [names.get(id(p), f"(not in the model: {index})") for index, p in parameters]


def take_moments(
    optimizer: Optimizer, state: dict[str, Any], names: list[str], given_names: list[str] | None
) -> dict[str, Any]:
    """Put the moments of a checkpoint into the state dict of an optimizer.

    Learning rates, weight decays, betas and groups stay those of the optimizer, because they follow
    from the config at hand. So do those of parameters that the checkpoint didn't train.

    Args:
        optimizer: Optimizer of the training that continues; not changed.
        state: State dict of the checkpoint's optimizer.
        names: Names of the optimizer's parameters (`parameter_names`).
        given_names: Those of the checkpoint's; None in former checkpoints, which hold no names.
            Their parameters are found by their position.

    Returns:
        State dict to load into the optimizer.

    Raises:
        InputError: Without names, the groups or the shapes of the moments differ.
    """
    own = optimizer.state_dict()
    if given_names is None:
        _check_positions(optimizer, state)
        given_names = names
    moments = {given_names[index]: values for index, values in state["state"].items()}
    own["state"] = {i: moments[name] for i, name in enumerate(names) if name in moments}
    if missing := sorted(set(names) - set(given_names)):
        logger.warning(
            "%d parameters were not trained before, such as %s: their moments start at zero",
            len(missing),
            missing[:3],
        )
    return own


def _check_positions(optimizer: Optimizer, state: dict[str, Any]) -> None:
    sizes = [len(group["params"]) for group in optimizer.param_groups]
    given = [len(group["params"]) for group in state["param_groups"]]
    parameters = list(_parameters(optimizer))
    if sizes == given and all(
        value.shape == parameters[index].shape
        for index, values in state["state"].items()
        for value in values.values()
        if torch.is_tensor(value) and value.ndim > 0  # a count of steps has no dimension
    ):
        return
    raise InputError(
        f"the checkpoint to resume from has optimizer groups of {given} tensors, the config of "
        f"{sizes}, and it is too old to hold their names. Resume with the keys that it was trained "
        "with (SOLVER.PARAM_RULES, SOLVER.DECAY_VECTORS, SOLVER.UNET_LAYER_DECAY, and those that "
        "freeze parameters), or start a new training from it (MODEL.WEIGHTS)"
    )


def _parameters(optimizer: Optimizer) -> Iterable[nn.Parameter]:
    return (parameter for group in optimizer.param_groups for parameter in group["params"])
