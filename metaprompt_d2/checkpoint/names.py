"""Translate tensor names with tables of layer names."""

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

Value = TypeVar("Value")


def rename(name: str, layers: Mapping[str, str]) -> str | None:
    """Rename a tensor by the longest entry of a table that its name begins with.

    Args:
        name: Name of the tensor, e.g. "decode_head.conv_seg.weight".
        layers: Maps the name of a layer to its new name. What follows it in `name` stays.

    Returns:
        The new name, or None if the table has no such layer.
    """
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        if new := layers.get(".".join(parts[:end])):
            return ".".join([new, *parts[end:]])
    return None


def below(prefix: str, named: Mapping[str, Value]) -> dict[str, Value]:
    """Select the entries whose names begin with a prefix, and drop it from their names."""
    return {name.removeprefix(prefix): v for name, v in named.items() if name.startswith(prefix)}


def count(pattern: str, names: Iterable[str]) -> int:
    """Count the distinct texts that a pattern matches within names."""
    return len({match[0] for name in names if (match := re.search(pattern, name))})
