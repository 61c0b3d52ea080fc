"""Checks of the network's sizes that name the config key at fault."""

from collections.abc import Sequence

from ..utils.errors import InputError

__all__ = ["check_at_least_one", "check_group_norm", "check_heads"]


def check_group_norm(node: str, block_out_channels: Sequence[int], norm_num_groups: int) -> None:
    """Every width must be a multiple of the group norms' number of groups.

    Args:
        node: config node of the network, for the message.

    Raises:
        InputError: naming the widths that don't fit.
    """
    misfits = [width for width in block_out_channels if width % norm_num_groups]
    if misfits:
        raise InputError(
            f"{node}.BLOCK_OUT_CHANNELS {tuple(block_out_channels)}: {misfits} are no multiples "
            f"of {node}.NORM_NUM_GROUPS {norm_num_groups}"
        )


def check_heads(block_out_channels: Sequence[int], heads: Sequence[int]) -> None:
    """Every width of the UNet must be a multiple of its level's number of attention heads.

    Raises:
        InputError: naming the widths that don't fit, or another number of levels.
    """
    widths = tuple(block_out_channels)
    node = "MODEL.DIFFUSION.UNET"
    if len(heads) != len(widths):
        raise InputError(
            f"{node}.NUM_HEADS_PER_LEVEL {tuple(heads)} has {len(heads)} levels, "
            f"{node}.BLOCK_OUT_CHANNELS {widths} has {len(widths)}"
        )
    misfits = [width for width, count in zip(widths, heads, strict=True) if width % count]
    if misfits:
        raise InputError(
            f"{node}.BLOCK_OUT_CHANNELS {widths}: {misfits} are no multiples of the attention "
            f"heads {tuple(heads)} (NUM_HEADS, NUM_HEADS_PER_LEVEL)"
        )


def check_at_least_one(key: str, value: int) -> None:
    """
    Raises:
        InputError: `value` is below 1.
    """
    if value < 1:
        raise InputError(f"{key} is {value}, expected an integer of at least 1")
