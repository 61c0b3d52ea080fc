"""The models that a visitor of the page may choose."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from metaprompt_d2 import Predictor, get_config
from metaprompt_d2.inference.prompt_responses import WHOLE_IMAGES
from metaprompt_d2.utils.errors import InputError

__all__ = ["Checkpoint", "find_checkpoints", "load_predictor"]

_TASKS = {
    "SlidingWindowSegmentor": "Segmentation",
    "DepthEstimator": "Depth",
    "TopDownPoseEstimator": "Pose",
}


class Checkpoint(NamedTuple):
    """A trained model."""

    label: str
    task: str
    config_file: str
    weights: str


def find_checkpoints(
    runs: Sequence[str], config_file: str = "", weights: str = ""
) -> list[Checkpoint]:
    """
    Args:
        runs: folders in which trainings left a config.yaml with checkpoints beside it.
        config_file, weights: one more model.

    Raises:
        InputError: nothing was found.
    """
    pairs = [
        (str(config), str(file), f"{config.parent.name}/{file.name}")
        for folder in runs
        for config in sorted(Path(folder).rglob("config.yaml"))
        for file in sorted(config.parent.glob("*.pth"), reverse=True)
    ]
    if config_file:
        pairs.insert(0, (config_file, weights, weights or f"{config_file}, random"))
    found = []
    for config, file, label in pairs:
        try:
            cfg = get_config(config)
        except InputError as error:
            if config == config_file:
                raise
            print(f"left out: {label}: {error}")  # of another version, for example
            continue
        is_open = cfg.MODEL.BACKBONE.NAME == "MetaPromptBackbone"
        is_open = is_open and cfg.MODEL.META_PROMPT.REARRANGE != "none"
        task = _TASKS.get(cfg.MODEL.META_ARCHITECTURE)
        if is_open and task is not None:
            found.append(Checkpoint(label, task, config, file))
    if not found:
        raise InputError(
            f"no config.yaml with a checkpoint beside it in {', '.join(runs)}: train a model, or "
            "give --config-file and --weights"
        )
    return found


@lru_cache(maxsize=2)
def load_predictor(checkpoint: Checkpoint) -> Predictor:
    """The model, of which the last two stay in memory."""
    cfg = get_config(checkpoint.config_file, WHOLE_IMAGES, weights=checkpoint.weights)
    return Predictor(cfg)
