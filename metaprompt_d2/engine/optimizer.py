"""AdamW with learning rate and weight decay by ordered rules on parameter names."""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence

import torch
from detectron2.config import CfgNode
from detectron2.solver.build import maybe_add_gradient_clipping
from tabulate import tabulate
from torch import nn

from ..diffusion import LatentEncoder
from ..utils.errors import InputError

__all__ = ["build_optimizer", "group_parameters", "optimizer_groups", "unet_layer_scales"]

logger = logging.getLogger(__name__)

# (regular expression, learning rate multiplier, weight decay multiplier)
Rule = Sequence

_BLOCK = re.compile(
    r"\.unet\.(?P<part>conv_in|down_blocks|mid_block|up_blocks|conv_norm_out|conv_out)\."
    r"(?:(?P<level>\d+)\.(?P<kind>\w+)\.(?P<index>\d+))?"
)
_ORDER = ("conv_in", "down_blocks", "mid_block", "up_blocks")


def group_parameters(
    model: nn.Module,
    rules: Iterable[Rule],
    *,
    base_lr: float,
    weight_decay: float,
    decay_vectors: bool = True,
    lr_scales: Mapping[str, float] | None = None,
) -> list[dict]:
    """Sort the trainable parameters into one optimizer group for each pair of multipliers.

    The first rule whose expression is found in a parameter's name holds. The VAE encoder is left
    out whatever its flags say.

    Args:
        model: not wrapped by DDP.
        rules: (regular expression, learning rate multiplier, weight decay multiplier).
        base_lr, weight_decay: what the multipliers multiply.
        decay_vectors: False gives no weight decay to parameters of one dimension (biases and
            norms), whatever the rules say.
        lr_scales: further multipliers of the learning rate, by parameter name; 1 for others.

    Returns:
        groups with "params", "names", "lr", "weight_decay".

    Raises:
        InputError: a rule that is no such triple, or nothing to train.
    """
    rules = [_checked(rule) for rule in rules]
    frozen = {
        id(parameter)
        for module in model.modules()
        if isinstance(module, LatentEncoder)
        for parameter in module.parameters()
    }
    groups: dict[tuple[float, float], dict] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad or id(parameter) in frozen:
            continue
        multipliers = next((rule[1:] for rule in rules if rule[0].search(name)), (1.0, 1.0))
        if parameter.ndim <= 1 and not decay_vectors:
            multipliers = (multipliers[0], 0.0)
        if lr_scales is not None:
            multipliers = (multipliers[0] * lr_scales.get(name, 1.0), multipliers[1])
        group = groups.setdefault(
            multipliers,
            {
                "params": [],
                "names": [],
                "lr": base_lr * multipliers[0],
                "weight_decay": weight_decay * multipliers[1],
            },
        )
        group["params"].append(parameter)
        group["names"].append(name)
    if not groups:
        raise InputError("the model has no parameter to train")
    return list(groups.values())


def optimizer_groups(
    model: nn.Module,
    *,
    rules: Iterable[Rule],
    base_lr: float,
    weight_decay: float,
    decay_vectors: bool = True,
    unet_layer_decay: float = 1.0,
) -> list[dict]:
    """`group_parameters` with `unet_layer_scales`, as an optimizer takes them; logs a table.

    Args:
        model, rules, base_lr, weight_decay, decay_vectors: as in `group_parameters`.
        unet_layer_decay: as in `unet_layer_scales`.

    Returns:
        groups with "params", "lr", "weight_decay".
    """
    groups = group_parameters(
        model,
        rules,
        base_lr=base_lr,
        weight_decay=weight_decay,
        decay_vectors=decay_vectors,
        lr_scales=unet_layer_scales(
            [name for name, _ in model.named_parameters()], unet_layer_decay
        ),
    )
    logger.info("Optimizer groups:\n%s", _table(groups))
    return [{key: group[key] for key in ("params", "lr", "weight_decay")} for group in groups]


def unet_layer_scales(names: Iterable[str], decay: float) -> dict[str, float]:
    """Learning rate multipliers decay ** (number of blocks between a block and the heads).

    A block is a residual block with its attention (a resampling layer belongs to the one before
    it), the middle, or the first convolution: 1 + 8 + 1 + 12 in Stable Diffusion 1.5. The last
    block before the heads has decay ** 1, as in ViTPose's recipe for its transformer (method
    section 5.2); the UNet's output head has 1.

    Args:
        names: of parameters; those outside a UNet, and its output head, are left out.
        decay: above 0; 1 for none.

    Returns:
        name -> multiplier.

    Raises:
        InputError: a decay that is not positive.
    """
    if not decay > 0:
        raise InputError(f"SOLVER.UNET_LAYER_DECAY is {decay}, expected more than 0")
    places = {}
    for name in names:
        match = _BLOCK.search(name)
        if match and match["part"] in _ORDER:
            places[name] = match
    last: dict[tuple, int] = {}
    for match in places.values():
        if match["kind"] in ("resnets", "attentions"):
            key = (match["part"], match["level"])
            last[key] = max(last.get(key, 0), int(match["index"]))

    def place(match: re.Match) -> tuple[int, int, int]:
        number = _ORDER.index(match["part"])
        if match["level"] is None:
            return number, 0, 0
        is_sampler = match["kind"] not in ("resnets", "attentions")
        index = last[match["part"], match["level"]] if is_sampler else int(match["index"])
        return number, int(match["level"]), index

    order = sorted({place(match) for match in places.values()})
    return {
        name: decay ** (len(order) - order.index(place(match))) for name, match in places.items()
    }


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """AdamW over `optimizer_groups`, clipping by value or by each parameter's norm if asked for.

    Clipping by the whole model's norm (SOLVER.CLIP_GRADIENTS.CLIP_TYPE "full_model") happens in
    the training loop.
    """
    groups = optimizer_groups(
        model,
        rules=cfg.SOLVER.PARAM_RULES,
        base_lr=cfg.SOLVER.BASE_LR,
        weight_decay=cfg.SOLVER.WEIGHT_DECAY,
        decay_vectors=cfg.SOLVER.DECAY_VECTORS,
        unet_layer_decay=cfg.SOLVER.UNET_LAYER_DECAY,
    )
    kind = torch.optim.AdamW
    if cfg.SOLVER.CLIP_GRADIENTS.CLIP_TYPE != "full_model":
        kind = maybe_add_gradient_clipping(cfg, kind)
    return kind(groups, lr=cfg.SOLVER.BASE_LR, fused=True)


def _checked(rule: Rule) -> tuple[re.Pattern, float, float]:
    try:
        pattern, lr_multiplier, decay_multiplier = rule
        return re.compile(pattern), float(lr_multiplier), float(decay_multiplier)
    except (TypeError, ValueError, re.error) as error:
        raise InputError(
            f"SOLVER.PARAM_RULES: {rule!r} is no (regular expression, lr multiplier, weight "
            f"decay multiplier): {error}"
        ) from error


def _table(groups: list[dict]) -> str:
    rows = [
        (
            group["lr"],
            group["weight_decay"],
            len(group["params"]),
            f"{sum(parameter.numel() for parameter in group['params']):,}",
            group["names"][0],
        )
        for group in groups
    ]
    return tabulate(rows, ("learning rate", "weight decay", "tensors", "parameters", "first"))
