"""Read LazyConfigs that are YAML files, which run no code unless the user trusts them."""

import re
from collections.abc import Iterator
from contextlib import suppress
from pydoc import ErrorDuringImport
from typing import Any

import yaml
from detectron2.config import LazyConfig
from detectron2.layers import ShapeSpec
from detectron2.utils.file_io import PathManager
from detectron2.utils.registry import locate
from omegaconf import DictConfig, OmegaConf

from ..utils.errors import InputError, MissingFileError
from .files import yaml_error

# Modules whose functions and classes may be a `_target_`. What they import is not meant: each
# target is judged by the module that defines it.
_ALLOWED = (
    "detectron2.data",
    "detectron2.evaluation",
    "detectron2.layers",
    "detectron2.modeling",
    "detectron2.solver",
    "detectron2.structures",
    "fvcore.common.param_scheduler",
    "metaprompt_d2.codecs",
    "metaprompt_d2.data",
    "metaprompt_d2.diffusion",
    "metaprompt_d2.engine.optimizer",
    "metaprompt_d2.engine.schedule",
    "metaprompt_d2.evaluation",
    "metaprompt_d2.layers",
    "metaprompt_d2.modeling",
    "torch.nn",
    "torch.optim",
)
# The packages under whose names these modules are imported: `metaprompt_d2.engine.WarmupPoly`.
_PACKAGES = ("detectron2", "fvcore", "metaprompt_d2", "torch")
# Arguments of Detectron2's functions that name pickles, which would be run.
_PICKLES = ("proposal_file", "proposal_files")
# OmegaConf's "${oc.create:...}" makes nodes that no check has seen.
_RESOLVER = re.compile(r"\$\{.*:", re.DOTALL)


class _Loader(yaml.SafeLoader):
    """A safe loader that also knows the values that a saved LazyConfig may hold."""


def _construct_tuple(loader: _Loader, node: yaml.SequenceNode) -> list:
    return loader.construct_sequence(node)


def _construct_shape(loader: _Loader, node: yaml.MappingNode) -> ShapeSpec:
    values = loader.construct_mapping(node)
    return ShapeSpec(**{str(key): value for key, value in values.items()})


_PYTHON = "tag:yaml.org,2002:python"
_Loader.add_constructor(f"{_PYTHON}/tuple", _construct_tuple)
_Loader.add_constructor(
    f"{_PYTHON}/object:detectron2.layers.shape_spec.ShapeSpec", _construct_shape
)


def read_lazy_config(config_file: str, *, trusted: bool = False) -> DictConfig:
    """Read a LazyConfig. A `.py` file is a program and is run.

    Args:
        config_file: Path, also "metaprompt_d2://lazy/cityscapes_seg.py".
        trusted: Whether a YAML file may call any function.

    Raises:
        MissingFileError: The file doesn't exist.
        InputError: The file is neither Python nor YAML, or the YAML file has tags that run code,
            calls a function outside of the packages that a model is made from, names proposals
            (pickles), or uses one of OmegaConf's resolvers.
    """
    if not PathManager.isfile(config_file):
        raise MissingFileError(f"config file {config_file} does not exist")
    if config_file.endswith(".py"):
        return LazyConfig.load(config_file)
    if not config_file.endswith((".yaml", ".yml")):
        raise InputError(f"config file {config_file} must end in .py, .yaml or .yml")
    try:
        with PathManager.open(config_file) as file:
            content = yaml.load(file, _Loader)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: another encoding, a date
        raise yaml_error(config_file, error) from error
    if not isinstance(content, dict):
        raise InputError(f"config file {config_file} has no keys")
    if not trusted and (found := next(_refused(content), None)):
        raise InputError(
            f"config file {config_file}: {found}, which may run any code; give --trust-config if "
            "you trust the author of the file"
        )
    return OmegaConf.create(content, flags={"allow_objects": True})


def _refused(value: Any) -> Iterator[str]:
    """Yield what a YAML file that nobody vouches for may not hold."""
    if isinstance(value, str) and _RESOLVER.search(value):
        yield f"{value!r} calls a resolver"
    if isinstance(value, list):
        for item in value:
            yield from _refused(item)
    if isinstance(value, dict):
        for key, item in value.items():
            if key == "_target_" and not _is_allowed(item):
                yield f"_target_ is {item!r}"
            if key in _PICKLES:
                yield f"{key} names pickles"
            yield from _refused(item)


def _is_allowed(target: Any) -> bool:
    """Say whether a `_target_` names something that an allowed module defines."""
    if not isinstance(target, str) or not _is_below(target, _PACKAGES):
        return False
    # A name that doesn't exist is reported when it is called.
    with suppress(ErrorDuringImport, ImportError):
        found = locate(target)
        return callable(found) and _is_below(getattr(found, "__module__", None) or "", _ALLOWED)
    return False


def _is_below(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)
