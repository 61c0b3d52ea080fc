"""Mask2Former's weights: its published layout, transformers' and ours."""

import argparse
from collections.abc import Mapping

import torch
from detectron2.layers import ShapeSpec

from converting.files import check_fit, check_task, read_state_dict, write
from metaprompt_d2.checkpoint import (
    MASK2FORMER_LAYOUTS,
    config_of_mask2former,
    from_mask2former,
    mask2former_layout,
    to_mask2former,
    write_safetensors,
)
from metaprompt_d2.config import default_config
from metaprompt_d2.modeling import Mask2FormerHead
from metaprompt_d2.utils.errors import InputError


def mask2former_to_ours(args: argparse.Namespace, state_dict: Mapping[str, torch.Tensor]) -> None:
    """Convert Mask2Former's tensors `state_dict` to our format. Prints the head's config keys."""
    if args.config_file or args.config_out:
        raise InputError(
            f"{args.input} holds a Mask2Former: --config-file and --config-out are for official "
            "MetaPrompts checkpoints"
        )
    weights = read_head(args, state_dict)
    write(args.output, {"model": weights, "__author__": "Mask2Former"})


def to_published(args: argparse.Namespace) -> None:
    """Convert to the layout that Mask2Former's authors publish."""
    write(args.output, {"model": convert_head(args), "__author__": "metaprompt_d2"})


def to_transformers(args: argparse.Namespace) -> None:
    """Convert to the layout of transformers."""
    write_safetensors(args.output, convert_head(args))
    print("wrote", args.output)


def convert_head(args: argparse.Namespace) -> dict[str, torch.Tensor]:
    """Read a Mask2Former in any layout, and convert it to that of --to."""
    state_dict, _ = read_state_dict(args.input)
    weights = read_head(args, state_dict)
    converted = to_mask2former(weights, args.to)
    if left_out := sorted(weights.keys() - from_mask2former(converted).keys()):
        print(
            f"  {len(left_out)} tensors of the backbone left out, such as {left_out[0]}: "
            f"{MASK2FORMER_LAYOUTS[args.to]} has no such backbone"
        )
    return converted


def read_head(
    args: argparse.Namespace, state_dict: Mapping[str, torch.Tensor]
) -> dict[str, torch.Tensor]:
    """Convert tensors to our names, compare the head's with its sizes, and print its keys.

    Raises:
        InputError: It isn't a Mask2Former, or tensors of the head are missing, unknown or of
            another shape (all are listed).
    """
    layout = mask2former_layout(state_dict)
    if layout is None:
        raise InputError(
            f"{args.input} holds no Mask2Former: it has neither our head nor "
            + " nor ".join(MASK2FORMER_LAYOUTS.values())
        )
    check_task(args.task, "universal", args.input)
    try:
        weights = from_mask2former(state_dict)
        keys, channels = config_of_mask2former(weights)
    except InputError as error:
        raise InputError(f"{args.input}: {error}") from error
    cfg = default_config()
    cfg.merge_from_list([part for pair in keys.items() for part in pair])
    shapes = {f"res{n + 2}": ShapeSpec(channels=c, stride=4 << n) for n, c in enumerate(channels)}
    cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES = list(shapes)
    with torch.device("meta"):
        head = Mask2FormerHead(cfg, shapes)
    prefix = "sem_seg_head."
    expected = {prefix + name: value for name, value in head.state_dict().items()}
    given = {name: value for name, value in weights.items() if name.startswith(prefix)}
    check_fit(expected, given, args.input)
    print(f"{args.input}: {MASK2FORMER_LAYOUTS.get(layout, 'our layout')}")
    print(f"  {len(given)} tensors of the head, {len(weights) - len(given)} others")
    print("config keys of the head, whose features have", channels, "channels")
    for key, value in keys.items():
        print(f"  {key} {value}")
    return weights
