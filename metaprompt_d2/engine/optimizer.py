"""AdamW whose learning rates and weight decays follow ordered rules on parameter names."""

import logging
import math
import re
from collections.abc import Iterable, Sequence

import torch
from detectron2.config import CfgNode
from detectron2.solver import get_default_optimizer_params
from detectron2.solver.build import maybe_add_gradient_clipping
from tabulate import tabulate
from torch import nn

from ..diffusion import LatentEncoder
from ..utils.errors import InputError

logger = logging.getLogger(__name__)

# (regular expression, learning rate multiplier, weight decay multiplier)
Rule = Sequence

# Parts of the UNet in the order of its forward pass, without the output head.
_PARTS = ("conv_in", "down_blocks", "mid_block", "up_blocks")
# A parameter's part, level and index in the level. Resampling layers have no such index.
_BLOCK = re.compile(
    rf"\.unet\.({'|'.join(_PARTS)})\.(?:(\d+)\.(?:(?:resnets|attentions)\.(\d+)|\w+))?"
)


def group_parameters(
    model: nn.Module,
    rules: Iterable[Rule],
    *,
    base_lr: float,
    weight_decay: float,
    weight_decay_norm: float | None = None,
    weight_decay_bias: float | None = None,
    bias_lr_factor: float = 1.0,
    decay_vectors: bool = True,
    unet_layer_decay: float = 1.0,
) -> list[dict]:
    """Sort the trainable parameters into groups of equal learning rate and weight decay.

    The base values are those of Detectron2's `get_default_optimizer_params`. The first rule whose
    expression is found in a parameter's name multiplies them. The VAE encoder is left out, whatever
    its flags say.

    Args:
        model: Model, not wrapped by DDP.
        rules: Triples (regular expression, learning rate multiplier, weight decay multiplier).
        base_lr, weight_decay: Values that the multipliers scale.
        weight_decay_norm: Value in place of `weight_decay` for norms; None for the same.
        weight_decay_bias: Value in place of both for biases, those of norms too; None for the same.
        bias_lr_factor: Multiplier of the biases' learning rate.
        decay_vectors: Whether parameters of one dimension (biases and norms) have weight decay.
        unet_layer_decay: Decay of `unet_layer_scales`, which multiply the learning rates, too.

    Returns:
        Groups with "params", "names", "lr", "weight_decay".

    Raises:
        InputError: A rule isn't such a triple, no parameter is trained, or norms or biases have a
            weight decay without `decay_vectors`.
    """
    if (weight_decay_norm or weight_decay_bias) and not decay_vectors:
        raise InputError(
            f"weight_decay_norm is {weight_decay_norm} and weight_decay_bias {weight_decay_bias}, "
            "expected None or 0 for both without decay_vectors"
        )
    rules = [_checked(rule) for rule in rules]
    scales = unet_layer_scales([name for name, _ in model.named_parameters()], unet_layer_decay)
    encoders = (module for module in model.modules() if isinstance(module, LatentEncoder))
    frozen = {id(parameter) for encoder in encoders for parameter in encoder.parameters()}
    base_groups = get_default_optimizer_params(
        model,
        base_lr=base_lr,
        weight_decay=weight_decay,
        weight_decay_norm=weight_decay_norm,
        weight_decay_bias=weight_decay_bias,
        bias_lr_factor=bias_lr_factor,
    )
    base = {id(parameter): group for group in base_groups for parameter in group["params"]}
    groups: dict[tuple[float, float], dict] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad or id(parameter) in frozen:
            continue
        matching = (multipliers for pattern, *multipliers in rules if pattern.search(name))
        lr_multiplier, decay_multiplier = next(matching, (1.0, 1.0))
        if parameter.ndim <= 1 and not decay_vectors:
            decay_multiplier = 0.0
        lr = base[id(parameter)]["lr"] * (lr_multiplier * scales.get(name, 1.0))
        decay = base[id(parameter)]["weight_decay"] * decay_multiplier
        new = {"params": [], "names": [], "lr": lr, "weight_decay": decay}
        group = groups.setdefault((lr, decay), new)
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
    weight_decay_norm: float | None = None,
    weight_decay_bias: float | None = None,
    bias_lr_factor: float = 1.0,
    decay_vectors: bool = True,
    unet_layer_decay: float = 1.0,
) -> list[dict]:
    """Call `group_parameters`, log a table, and return the groups without names."""
    groups = group_parameters(
        model,
        rules,
        base_lr=base_lr,
        weight_decay=weight_decay,
        weight_decay_norm=weight_decay_norm,
        weight_decay_bias=weight_decay_bias,
        bias_lr_factor=bias_lr_factor,
        decay_vectors=decay_vectors,
        unet_layer_decay=unet_layer_decay,
    )
    header = ("learning rate", "weight decay", "tensors", "parameters", "first")
    rows = [
        (g["lr"], g["weight_decay"], len(g["params"]), f"{_count(g['params']):,}", g["names"][0])
        for g in groups
    ]
    logger.info("Optimizer groups:\n%s", tabulate(rows, header))
    return [{key: group[key] for key in ("params", "lr", "weight_decay")} for group in groups]


def _count(parameters: list[nn.Parameter]) -> int:
    return sum(parameter.numel() for parameter in parameters)


def unet_layer_scales(names: Iterable[str], decay: float) -> dict[str, float]:
    """Compute learning rate multipliers that fall with the number of blocks before the heads.

    A block is a residual block with its attention (a resampling layer belongs to the one before
    it), the middle, or the first convolution: 1 + 8 + 1 + 12 in Stable Diffusion 1.5. The last
    block has decay ** 1, as in ViTPose's recipe (docs/method.md#vitpose-recipe).

    Args:
        names: Names of a model's parameters.
        decay: Multiplier from one block to the one before it, above 0; 1 for none.

    Returns:
        Multipliers by name, without parameters outside of the UNet and those of its output head.

    Raises:
        InputError: The decay isn't positive.
    """
    if not decay > 0:
        raise InputError(f"decay is {decay}, expected more than 0")
    places = {}
    for name in names:
        if match := _BLOCK.search(name):
            part, level, index = match.groups()
            after_level = level is not None and index is None
            position = math.inf if after_level else int(index or 0)
            places[name] = (_PARTS.index(part), int(level or 0), position)
    blocks = {place for place in places.values() if place[-1] < math.inf}
    return {name: decay ** (1 + sum(b > place for b in blocks)) for name, place in places.items()}


def build_optimizer(cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
    """Build AdamW, with clipping by value or by each parameter's norm if the config asks for it.

    The training loop clips the norm of the whole model (CLIP_TYPE "full_model").
    """
    groups = optimizer_groups(
        model,
        rules=cfg.SOLVER.PARAM_RULES,
        base_lr=cfg.SOLVER.BASE_LR,
        weight_decay=cfg.SOLVER.WEIGHT_DECAY,
        weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM,
        weight_decay_bias=cfg.SOLVER.WEIGHT_DECAY_BIAS,
        bias_lr_factor=cfg.SOLVER.BIAS_LR_FACTOR,
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
            f"rules: {rule!r} isn't a (regular expression, lr multiplier, weight decay "
            f"multiplier): {error}"
        ) from error
