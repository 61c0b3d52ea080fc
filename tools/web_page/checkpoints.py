"""The models that the page offers."""

from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from metaprompt_d2 import Predictor, get_config
from metaprompt_d2.data import find_keypoint_metadata
from metaprompt_d2.inference.prompt_responses import WHOLE_IMAGES
from metaprompt_d2.utils.errors import InputError
from metaprompt_d2.utils.tasks import find_task

__all__ = ["Checkpoint", "find_checkpoints", "load_predictor"]

_LABELS = {"sem_seg": "Segmentation", "depth": "Depth", "pose": "Pose"}


class Checkpoint(NamedTuple):
    """A trained model and its config."""

    label: str  # unique, and without the folders of the server
    task: str
    config_file: str
    weights: str
    categories: tuple[str, ...] = ()  # what it poses
    options: tuple[str, ...] = ()  # config keys and values


def find_checkpoints(
    runs: Sequence[str], config_file: str = "", weights: str = "", options: Sequence[str] = ()
) -> list[Checkpoint]:
    """Find models whose prompts can be looked at.

    Args:
        runs: Folders to search for a config.yaml with checkpoints (.pth) in the same folder.
        config_file, weights: Config and checkpoint of an additional model.
        options: Config keys and values of all models.

    Raises:
        InputError: No model was found.
    """
    pairs = [
        (str(config), str(file), _label(file, Path(folder)))
        for folder in runs
        for config in sorted(Path(folder).rglob("config.yaml"))
        for file in sorted(config.parent.glob("*.pth"), reverse=True)
    ]
    if config_file:
        source = Path(weights or config_file)
        label = "/".join(source.parts[-2:]) + ("" if weights else ", random")
        pairs.insert(0, (config_file, weights, label))
    found: list[Checkpoint] = []
    copies: Counter[str] = Counter()
    for config, file, label in pairs:
        try:
            cfg = get_config(config, options)
            task = _LABELS.get(find_task(cfg))
            posed = find_keypoint_metadata(cfg)["thing_classes"] if task == "Pose" else ()
        except InputError as error:
            if config == config_file:
                raise
            print(f"left out: {label}: {error}")  # of another version, for example
            continue
        is_open = cfg.MODEL.BACKBONE.NAME == "MetaPromptBackbone"
        is_open = is_open and cfg.MODEL.META_PROMPT.REARRANGE != "none"
        if is_open and task is not None:
            copies[label] += 1
            unique = f"{label} ({copies[label]})" if copies[label] > 1 else label
            found.append(Checkpoint(unique, task, config, file, tuple(posed), tuple(options)))
    if not found:
        raise InputError(
            f"no config.yaml with a checkpoint next to it in {', '.join(runs)}: train a model, or "
            "give --config-file and --weights"
        )
    return found


def _label(file: Path, folder: Path) -> str:
    """Name a checkpoint by its run and file, as short as they are below the folder of runs."""
    below = file.relative_to(folder)
    return str(below) if len(below.parts) > 1 else f"{folder.resolve().name}/{below}"


@lru_cache(maxsize=2)
def load_predictor(checkpoint: Checkpoint) -> Predictor:
    """Load a model; the last two stay in memory."""
    options = [*checkpoint.options, *WHOLE_IMAGES]
    return Predictor(get_config(checkpoint.config_file, options, weights=checkpoint.weights))
