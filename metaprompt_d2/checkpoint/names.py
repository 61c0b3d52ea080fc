"""Translate tensor names with tables of layer names."""

import re
from collections.abc import Iterable, Mapping
from typing import TypeVar

from ..utils.errors import InputError
from .versions import versions_of, with_versions

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


# What DataParallel, DistributedDataParallel, torch.compile, FSDP and activation checkpointing put
# between the parts of a name.
_WRAPPERS = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}


def unwrapped(name: str) -> str:
    """Drop what wrappers of modules add to a tensor's name, anywhere in it."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def unwrap(named: Mapping[str, Value]) -> dict[str, Value]:
    """Drop what wrappers of modules add to the names of tensors, and of modules with versions.

    Raises:
        InputError: Two names become one (all are listed).
    """
    versions = {unwrapped(name): version for name, version in versions_of(named).items()}
    return with_versions(match_names(named, {}), versions)


def match_names(named: Mapping[str, Value], known: Mapping[str, str]) -> dict[str, Value]:
    """Rename tensors to the names of a model, whatever wrappers of modules add to either.

    Args:
        named: Tensors under any names.
        known: Maps names, that of the model's tensors among them, to names of the model's tensors.

    Returns:
        The tensors. What the model doesn't have keeps its name without what wrappers add.

    Raises:
        InputError: Two tensors get the same name (all are listed).
    """
    plain = {unwrapped(name): own for name, own in known.items()}
    renamed: dict[str, list[str]] = {}
    for name in named:
        new = known.get(name) or plain.get(unwrapped(name), unwrapped(name))
        renamed.setdefault(new, []).append(name)
    if twice := [" and ".join(names) for names in renamed.values() if len(names) > 1]:
        raise InputError("these names mean the same tensor:\n  " + "\n  ".join(twice))
    return {new: named[name] for new, (name,) in renamed.items()}
