"""Read config files that are reachable from any folder: this package's own and Detectron2's.

`metaprompt_d2://mini/diffusion` is `configs/mini/diffusion` of the checkout, or the copy in an
installed wheel. `model_zoo://COCO-Detection/retinanet_R_50_FPN_1x.yaml` is a config of Detectron2's
model zoo. The `_BASE_` of any YAML file may have either prefix, alone or in a list. Importing this
module teaches the prefixes to Detectron2's `PathManager`, and so to plain Detectron2.
"""

import os
import re
from pathlib import Path
from typing import Any

import detectron2
import yaml
from detectron2.config import CfgNode
from detectron2.utils.file_io import PathManager
from iopath.common.file_io import NativePathHandler

from ..utils.errors import InputError, MissingFileError

_PACKAGE = Path(__file__).parents[1]
_PACKAGED = _PACKAGE / "configs"
CONFIG_ROOT = _PACKAGED if _PACKAGED.is_dir() else _PACKAGE.parent / "configs"

_FOLDERS = {
    "metaprompt_d2": CONFIG_ROOT,
    # Importing detectron2.model_zoo would import pkg_resources, which warns.
    "model_zoo": Path(detectron2.__file__).parent / "model_zoo" / "configs",
}
# fvcore joins a `_BASE_` to the folder of its file: "/a/model_zoo://b", "metaprompt_d2:/b".
_PREFIXED = re.compile(rf"(?:.*/)?({'|'.join(_FOLDERS)}):/+(.*)")


def recipe_names() -> list[str]:
    """List the packaged YAML files that train a model, such as "mini/cityscapes_seg.yaml"."""
    files = (file for file in CONFIG_ROOT.rglob("*.yaml") if not file.name.startswith("Base-"))
    return sorted(file.relative_to(CONFIG_ROOT).as_posix() for file in files)


class _LocalFiles(NativePathHandler):
    """Local files, where a prefix stands for a folder: at the start of a path or after a folder."""

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        return _without_prefix(super()._get_local_path(path, force, **kwargs))

    def _get_path_with_cwd(self, path: str) -> str:
        return super()._get_path_with_cwd(_without_prefix(path))


def _without_prefix(path: str) -> str:
    found = _PREFIXED.fullmatch(os.fspath(path))
    return str(_FOLDERS[found[1]] / found[2]) if found else path


PathManager.register_handler(_LocalFiles())


def read_config_file(config_file: str) -> CfgNode:
    """Read a YAML file and the files that it names as `_BASE_`.

    Tags that run code are refused, except in Detectron2's model zoo (its RetinaNet has one).

    Args:
        config_file: Path, also "metaprompt_d2://cityscapes_seg.yaml".

    Raises:
        MissingFileError: The file doesn't exist.
        InputError: The file isn't YAML with keys, has tags that run code, or is its own base.
    """
    path = PathManager.get_local_path(config_file)
    if not PathManager.isfile(path):
        raise MissingFileError(f"config file {config_file} does not exist")
    try:
        return CfgNode(_YamlFile.load_yaml_with_base(path))
    except RecursionError as error:
        raise InputError(f"config file {config_file}: _BASE_ leads back to itself") from error
    except FileNotFoundError as error:
        raise MissingFileError(f"config file {config_file}: {error}") from error
    except (AssertionError, OSError) as error:  # keys that don't merge; a folder, no permission
        raise InputError(f"config file {config_file}: {error}") from error


def yaml_error(config_file: str, error: Exception) -> InputError:
    """Make the error that says why a file cannot be read as YAML, and what to do about it."""
    advice = ""
    if "python/" in str(error):
        advice = (
            ". Tags that begin with !!python/ may run any code and are refused: write the value "
            "that the tag makes or, if you trust the file, convert it (docs/compose.md)"
        )
    return InputError(f"config file {config_file} cannot be read as YAML: {error}{advice}")


class _YamlFile(CfgNode):
    """Read YAML as Detectron2 does, but run code from its model zoo only."""

    @classmethod
    def load_yaml_with_base(cls, filename: str, allow_unsafe: bool = False) -> dict[str, Any]:
        path = PathManager.get_local_path(filename)
        # Where Detectron2 is installed from its source, the folder is a symlink to another one.
        trusted = Path(path).resolve().is_relative_to(_FOLDERS["model_zoo"].resolve())
        try:
            with cls._open_cfg(path) as file:
                content = (yaml.unsafe_load if trusted else yaml.safe_load)(file)
        except (yaml.YAMLError, ValueError) as error:  # ValueError: another encoding, a date
            raise yaml_error(filename, error) from error
        _check_keys(content, f"config file {filename}")
        return super().load_yaml_with_base(path, allow_unsafe=trusted)


def _check_keys(content: Any, source: str) -> None:
    """Check that the content of a file is keys, which are strings, and values."""
    if not isinstance(content, dict):
        raise InputError(f"{source}: expected keys and values, found {type(content).__name__}")
    for key, value in content.items():
        if not isinstance(key, str):
            raise InputError(f"{source}: key {key!r} isn't a string")
        if isinstance(value, dict):
            _check_keys(value, source)
        names = value if isinstance(value, list) else [value]
        if key == "_BASE_" and not all(isinstance(name, str) for name in names):
            raise InputError(f"{source}: _BASE_ is {value!r}, expected the name of a file")
