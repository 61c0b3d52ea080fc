"""Get configs and models by name, as from Detectron2's `model_zoo`."""

from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.utils.file_io import PathManager
from torch import nn

from .config import recipe_names
from .engine import load_config, load_model
from .utils.errors import MissingFileError


def get_config(name: str, overrides: Sequence[Any] = (), *, weights: str = "") -> CfgNode:
    """Load a config by name or path.

    Args:
        name: Name of a packaged file, such as "mini/kitti_depth.yaml", or path of any other file.
        overrides: Alternating keys and values.
        weights: Value of MODEL.WEIGHTS: a checkpoint of this package or an official one.

    Returns:
        The config, not frozen. Without a GPU, MODEL.DEVICE is "cpu".

    Raises:
        MissingFileError: The config doesn't exist; the message lists the packaged ones.
        InputError: As in `metaprompt_d2.engine.load_config`.
    """
    candidates = (PathManager.get_local_path(name), f"metaprompt_d2://{name}")
    file = next(filter(PathManager.isfile, candidates), None)
    if file is None:
        raise MissingFileError(
            f"config {name} isn't a file, and none of the package's: {', '.join(recipe_names())}"
        )
    cfg = load_config(file, [*overrides, *(["MODEL.WEIGHTS", weights] if weights else [])])
    cfg.defrost()
    return cfg


def build_model(cfg: CfgNode, *, require_weights: bool = True) -> nn.Module:
    """Build the model of a config for inference, with its weights.

    Args:
        cfg: Config with MODEL.WEIGHTS.
        require_weights: Whether an empty MODEL.WEIGHTS is an error. If False,
            MODEL.DIFFUSION.WEIGHTS is loaded, and prompts and heads are random.

    Raises:
        InputError: There are no weights, or they aren't exactly the model's.
    """
    return load_model(cfg, require_weights=require_weights).eval()
