"""Configs and models by name, in the manner of Detectron2's `model_zoo`."""

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.utils.file_io import PathManager
from torch import nn

from .config import recipe_names
from .engine import load_config, load_model
from .utils.errors import MissingFileError

__all__ = ["build_model", "get_config"]


def get_config(name: str, overrides: Sequence[Any] = (), *, weights: str = "") -> CfgNode:
    """
    Args:
        name: of a file that comes with the package, such as "cityscapes_seg.yaml" or
            "mini/kitti_depth.yaml", or the path of any other.
        overrides: alternating keys and values.
        weights: MODEL.WEIGHTS, a checkpoint of this package or an official one.

    Returns:
        the config, not frozen. Where there is no GPU, MODEL.DEVICE is "cpu".

    Raises:
        MissingFileError: there is no such config; the message lists those that there are.
        KeyError, ValueError: as `metaprompt_d2.engine.load_config`.
    """
    packaged = f"metaprompt_d2://{name}"
    if PathManager.isfile(PathManager.get_local_path(name)):
        file = name
    elif PathManager.isfile(packaged):
        file = packaged
    else:
        raise MissingFileError(
            f"config {name} is no file, and none of the package's: {', '.join(recipe_names())}"
        )
    options = [*overrides, *(["MODEL.WEIGHTS", weights] if weights else [])]
    cfg = load_config(file, options)
    cfg.defrost()
    return cfg


def build_model(cfg: CfgNode) -> nn.Module:
    """The model of a config with its weights, for inference.

    MODEL.WEIGHTS is loaded or, where that is empty, MODEL.DIFFUSION.WEIGHTS: then prompts and heads
    are random.
    """
    return load_model(cfg).eval()
