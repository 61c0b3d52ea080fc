"""Config files that are reachable from any folder: this package's own and Detectron2's.

`metaprompt_d2://mini/diffusion` is `configs/mini/diffusion` of the checkout, or the copy that an
installed wheel carries; `model_zoo://COCO-Detection/retinanet_R_50_FPN_1x.yaml` is a config of
Detectron2's model zoo. A YAML file's `_BASE_` may be either, alone or in a list.
"""

import re
from pathlib import Path

from detectron2 import model_zoo
from detectron2.config import CfgNode
from detectron2.utils.file_io import PathManager
from iopath.common.file_io import PathHandler

__all__ = ["CONFIG_ROOT", "merge_config_file"]

_PACKAGE = Path(__file__).parent
_PACKAGED = _PACKAGE / "configs"
CONFIG_ROOT = _PACKAGED if _PACKAGED.is_dir() else _PACKAGE.parent / "configs"

_SCHEMES = re.compile(r".*(?=(?:metaprompt_d2|model_zoo)://)")


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


class _ConfigFile(CfgNode):
    """Reads a YAML file whose `_BASE_` may have one of the prefixes above."""

    @classmethod
    def _open_cfg(cls, filename: str):
        return PathManager.open(_without_folder(filename))


def merge_config_file(cfg: CfgNode, file: str) -> None:
    """`cfg.merge_from_file`, with the prefixes in `_BASE_`, too.

    Raises:
        FileNotFoundError: the file or its base does not exist.
        ValueError: a config of Detectron2's first version.
    """
    loaded = _ConfigFile.load_yaml_with_base(file, allow_unsafe=True)
    version = loaded.get("VERSION", cfg.VERSION)
    if version != cfg.VERSION:
        raise ValueError(f"{file}: VERSION is {version}, expected {cfg.VERSION}")
    cfg.merge_from_other_cfg(CfgNode(loaded))
