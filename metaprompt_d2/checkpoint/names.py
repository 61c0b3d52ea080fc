"""Translate tensor names with tables of layer names."""

import re
from collections.abc import Iterable, Mapping


def rename(name: str, layers: Mapping[str, str]) -> str | None:
    """Rename a tensor by the longest entry of a table that its name begins with.

    Args:
        name: Name of the tensor, e.g. "decode_head.conv_seg.weight".
        layers: Maps the name of a layer to its new name. What follows it in `name` stays.

    Returns:
        The new name, or None if the table has no such layer.
    """
    layer, rest = name, ""
    while layer:
        if layer in layers:
            return layers[layer] + rest
        layer, dot, last = layer.rpartition(".")
        rest = f"{dot}{last}{rest}"
    return None


def invert(layers: Mapping[str, str]) -> dict[str, str]:
    """Return the table for the opposite direction."""
    return {new: old for old, new in layers.items()}


def count(pattern: str, names: Iterable[str]) -> int:
    """Count the distinct texts that a pattern matches within names."""
    return len({match[0] for name in names if (match := re.search(pattern, name))})
