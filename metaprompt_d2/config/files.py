"""Config files that are reachable from any folder: this package's own and Detectron2's.

`metaprompt_d2://mini/diffusion` is `configs/mini/diffusion` of the checkout, or the copy that an
installed wheel carries; `model_zoo://COCO-Detection/retinanet_R_50_FPN_1x.yaml` is a config of
Detectron2's model zoo. A YAML file's `_BASE_` may be either, alone or in a list.
"""

import re
from pathlib import Path
from typing import Any, TextIO

import detectron2
import yaml
from detectron2 import model_zoo
from detectron2.config import CfgNode
from detectron2.utils.file_io import PathManager
from iopath.common.file_io import PathHandler

from ..utils.errors import InputError, MissingFileError

__all__ = ["CONFIG_ROOT", "read_config_file", "recipe_names"]

_PACKAGE = Path(__file__).parents[1]
_PACKAGED = _PACKAGE / "configs"
CONFIG_ROOT = _PACKAGED if _PACKAGED.is_dir() else _PACKAGE.parent / "configs"

_SCHEMES = re.compile(r".*(?=(?:metaprompt_d2|model_zoo)://)")


def recipe_names() -> list[str]:
    """The packaged YAML files that train a model, such as "mini/cityscapes_seg.yaml"."""
    files = (file for file in CONFIG_ROOT.rglob("*.yaml") if not file.name.startswith("Base-"))
    return sorted(file.relative_to(CONFIG_ROOT).as_posix() for file in files)


def _without_folder(path: str) -> str:
    """fvcore joins a `_BASE_` to the folder of its file: `a/model_zoo://b` -> `model_zoo://b`."""
    return _SCHEMES.sub("", path, count=1)


class _LocalHandler(PathHandler):
    """Paths with a prefix that stands for a folder of this machine."""

    def _isfile(self, path: str, **kwargs) -> bool:
        return Path(self._get_local_path(path)).is_file()

    def _exists(self, path: str, **kwargs) -> bool:
        return Path(self._get_local_path(path)).exists()

    def _open(self, path: str, mode: str = "r", **kwargs):
        return PathManager.open(self._get_local_path(path), mode, **kwargs)


class _ConfigsHandler(_LocalHandler):
    PREFIX = "metaprompt_d2://"

    def _get_supported_prefixes(self) -> list[str]:
        return [self.PREFIX]

    def _get_local_path(self, path: str, **kwargs) -> str:
        path = _without_folder(path)
        if not path.startswith(self.PREFIX):
            return PathManager.get_local_path(path)
        return str(CONFIG_ROOT / path.removeprefix(self.PREFIX))


class _ModelZooHandler(_LocalHandler):
    PREFIX = "model_zoo://"

    def _get_supported_prefixes(self) -> list[str]:
        return [self.PREFIX]

    def _get_local_path(self, path: str, **kwargs) -> str:
        configs = Path(model_zoo.get_config_file("Base-RCNN-FPN.yaml")).parent
        return str(configs / path.removeprefix(self.PREFIX))


PathManager.register_handler(_ConfigsHandler())
PathManager.register_handler(_ModelZooHandler())


def read_config_file(config_file: str) -> CfgNode:
    """The keys of a YAML file on top of its `_BASE_`.

    Tags that run code are refused, but in Detectron2's own files (its RetinaNet has one).

    Args:
        config_file: path, also "metaprompt_d2://cityscapes_seg.yaml".

    Raises:
        MissingFileError: there is no such file.
        InputError: it is no YAML with keys, has tags that run code, or bases in a circle.
    """
    path = PathManager.get_local_path(config_file)
    if not PathManager.isfile(path):
        raise MissingFileError(f"config file {config_file} does not exist")
    try:
        return CfgNode(_YamlFile.load_yaml_with_base(path))
    except RecursionError as error:
        raise InputError(f"config file {config_file}: _BASE_ leads back to itself") from error


class _YamlFile(CfgNode):
    """Detectron2's reading of YAML, which would run code from any file by default.

    A `_BASE_` may have one of the prefixes above.
    """

    @classmethod
    def _open_cfg(cls, filename: str) -> TextIO:
        return PathManager.open(_without_folder(filename))

    @classmethod
    def load_yaml_with_base(cls, filename: str, allow_unsafe: bool = False) -> dict[str, Any]:
        path = Path(PathManager.get_local_path(_without_folder(filename)))
        trusted = path.resolve().is_relative_to(Path(detectron2.__file__).parent)
        try:
            with cls._open_cfg(filename) as file:
                content = (yaml.unsafe_load if trusted else yaml.safe_load)(file)
            _check_keys(content)
            return super().load_yaml_with_base(filename, allow_unsafe=trusted)
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise InputError(f"config file {filename} cannot be read as YAML: {error}") from error
        except TypeError as error:
            raise InputError(f"config file {filename}: {error}") from error


def _check_keys(content: Any) -> None:
    """
    Raises:
        TypeError: the content is no mapping with strings as keys.
    """
    if not isinstance(content, dict):
        raise TypeError(f"expected keys and values, found {type(content).__name__}")
    for key, value in content.items():
        if not isinstance(key, str):
            raise TypeError(f"key {key!r} is no string")
        if key == "_BASE_":
            names = value if isinstance(value, list) else [value]
            if not all(isinstance(name, str) for name in names):
                raise TypeError(f"_BASE_ is {value!r}, expected the name of a file")
        elif isinstance(value, dict):
            _check_keys(value)
