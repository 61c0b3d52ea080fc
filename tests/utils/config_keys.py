"""All keys of a config with their values."""

from collections.abc import Iterator
from typing import Any

from detectron2.config import CfgNode


def leaves(node: CfgNode, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the full name and the value of every key that isn't a node."""
    for key, value in node.items():
        if isinstance(value, CfgNode):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
