"""Versions of the modules in a state dict, by which modules rename tensors of older versions."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, TypeVar

from ..utils.errors import InputError

Value = TypeVar("Value")

_ATTRIBUTE = "_metadata"  # where `Module.state_dict` writes them and `load_state_dict` reads them


def versions_of(state_dict: Mapping[str, Any]) -> dict[str, int | None]:
    """Return the versions in a state dict, by the names of the modules; {} if it has none.

    Raises:
        InputError: They aren't numbers.
    """
    metadata = getattr(state_dict, _ATTRIBUTE, {})
    if not isinstance(metadata, Mapping) or not all(map(_is_entry, metadata.items())):
        raise InputError("expected a number as the version of each module, by the module's name")
    return {name: entry.get("version") for name, entry in metadata.items()}


def _is_entry(item: tuple[Any, Any]) -> bool:
    name, entry = item
    if not isinstance(name, str) or not isinstance(entry, Mapping):
        return False
    return type(entry.get("version")) in (int, type(None))


def with_versions(
    named: Mapping[str, Value], versions: Mapping[str, int | None]
) -> dict[str, Value]:
    """Make a state dict of tensors and of the versions of their modules."""
    state_dict = OrderedDict(named)
    if versions:
        metadata = {name: {"version": version} for name, version in versions.items()}
        setattr(state_dict, _ATTRIBUTE, metadata)
    return state_dict
