"""The package's own YAML files and mini diffusion model, reachable from any folder.

`metaprompt_d2://mini/diffusion` is `configs/mini/diffusion` of the checkout, or the copy that an
installed wheel carries.
"""

from pathlib import Path

from detectron2.utils.file_io import PathManager
from iopath.common.file_io import PathHandler

__all__ = ["CONFIG_ROOT", "recipe_names"]

_PACKAGE = Path(__file__).parent
_PACKAGED = _PACKAGE / "configs"
CONFIG_ROOT = _PACKAGED if _PACKAGED.is_dir() else _PACKAGE.parent / "configs"


def recipe_names() -> list[str]:
    """The packaged YAML files that train a model, such as "mini/cityscapes_seg.yaml"."""
    files = (file for file in CONFIG_ROOT.rglob("*.yaml") if not file.name.startswith("Base-"))
    return sorted(file.relative_to(CONFIG_ROOT).as_posix() for file in files)


class _ConfigsHandler(PathHandler):
    PREFIX = "metaprompt_d2://"

    def _get_supported_prefixes(self) -> list[str]:
        return [self.PREFIX]

    def _get_local_path(self, path: str, **kwargs) -> str:
        return str(CONFIG_ROOT / path.removeprefix(self.PREFIX))

    def _isfile(self, path: str, **kwargs) -> bool:
        return Path(self._get_local_path(path)).is_file()

    def _exists(self, path: str, **kwargs) -> bool:
        return Path(self._get_local_path(path)).exists()

    def _open(self, path: str, mode: str = "r", **kwargs):
        return PathManager.open(self._get_local_path(path), mode, **kwargs)


PathManager.register_handler(_ConfigsHandler())
