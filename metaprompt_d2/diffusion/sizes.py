"""Checks of the networks' sizes."""

from collections.abc import Sequence

from ..utils.errors import InputError


def check_group_norm(network: str, block_out_channels: Sequence[int], norm_num_groups: int) -> None:
    """Check that every width is a multiple of the group norms' number of groups.

    Args:
        network: Name of the network, for the error message.
        block_out_channels: Widths of the levels.
        norm_num_groups: Groups of every group norm.

    Raises:
        InputError: Some widths don't fit; the message names them.
    """
    misfits = [width for width in block_out_channels if width % norm_num_groups]
    if misfits:
        raise InputError(
            f"{network}: block_out_channels is {tuple(block_out_channels)}, but {misfits} aren't "
            f"multiples of norm_num_groups {norm_num_groups}"
        )


def check_heads(block_out_channels: Sequence[int], heads: Sequence[int]) -> None:
    """Check that every width of the UNet is a multiple of its level's number of attention heads.

    Raises:
        InputError: Some widths don't fit, or the numbers of levels differ.
    """
    widths, heads = tuple(block_out_channels), tuple(heads)
    if len(heads) != len(widths):
        raise InputError(
            f"UNet: num_heads {heads} has {len(heads)} levels, block_out_channels {widths} has "
            f"{len(widths)}"
        )
    misfits = [width for width, count in zip(widths, heads, strict=True) if width % count]
    if misfits:
        raise InputError(
            f"UNet: block_out_channels is {widths}, but {misfits} aren't multiples of their "
            f"level's attention heads, num_heads {heads}"
        )


def check_at_least_one(name: str, value: int) -> None:
    """Check an argument that counts something.

    Raises:
        InputError: The value is below 1.
    """
    if value < 1:
        raise InputError(f"{name} is {value}, expected an integer of at least 1")
