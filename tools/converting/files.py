"""Read and write the files of a conversion."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml
from detectron2.config import CfgNode
from detectron2.modeling import build_model

from metaprompt_d2.checkpoint import (
    AVERAGES,
    find_state_dict,
    find_weights,
    load_checkpoint,
    non_finite,
    unwrap,
    use_averages,
    write_checkpoint,
)
from metaprompt_d2.config import default_config
from metaprompt_d2.utils.errors import InputError
from metaprompt_d2.utils.files import atomic_write


def read_state_dict(path: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read the state dict of a file or a folder of transformers, and the file's top-level dict.

    Averages (EMA), if there are some, replace the weights.

    Raises:
        InputError: Tensors hold NaN or infinity.
    """
    path = find_weights(path)
    loaded = load_checkpoint(path, mapped=True)
    state_dict = unwrap(find_state_dict(loaded, path))
    averaged = use_averages(state_dict, loaded)
    print("weights:", "as they are" if averaged is None else f"their averages ({AVERAGES})")
    state_dict = averaged or state_dict
    if broken := non_finite(state_dict):
        raise InputError(f"{path}: {len(broken)} tensors hold NaN or infinity: {broken}")
    return state_dict, loaded


def check_task(expected: str, task: str, path: str) -> None:
    """Compare a checkpoint's task with the expected one.

    Raises:
        InputError: They differ.
    """
    if expected not in ("auto", task):
        raise InputError(f"{path} is a {task} checkpoint, but --task is {expected}")


def write(path: Path, data: dict[str, Any]) -> None:
    """Write a checkpoint."""
    write_checkpoint(path, data)
    print("wrote", path)


def write_config(args: argparse.Namespace, cfg: CfgNode) -> None:
    """Write the file of --config-out, if given."""
    if args.config_out:
        content = yaml.safe_dump(changed_keys(cfg), default_flow_style=False)
        atomic_write(args.config_out, lambda stream: stream.write(content.encode()))
        print("wrote", args.config_out)


def expected_weights(cfg: CfgNode) -> dict[str, torch.Tensor]:
    """Return the state dict of the model that a config builds. It takes no memory."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        return build_model(cfg).state_dict()


def check_fit(
    expected: Mapping[str, torch.Tensor], given: Mapping[str, torch.Tensor], path: str
) -> None:
    """Compare tensors with those of a model.

    Raises:
        InputError: Tensors are missing, unknown or of another shape (all are listed).
    """
    problems = [f"{name}: missing" for name in expected if name not in given]
    problems += [f"{name}: not in the model" for name in given if name not in expected]
    problems += [
        f"{name}: {tuple(given[name].shape)} in the file, {tuple(value.shape)} in the model"
        for name, value in expected.items()
        if name in given and given[name].shape != value.shape
    ]
    if problems:
        raise InputError(
            f"{path} does not fit the model, {len(problems)} tensors:\n  " + "\n  ".join(problems)
        )


def changed_keys(cfg: CfgNode) -> dict:
    """Return the keys that differ from the defaults, nested as in YAML."""

    def difference(node: CfgNode, default: CfgNode) -> dict:
        changed = {}
        for key, value in node.items():
            if isinstance(value, CfgNode):
                inner = difference(value, default[key])
                changed |= {key: inner} if inner else {}
            elif value != default[key] and key != "DEVICE":
                changed[key] = list(value) if isinstance(value, tuple) else value
        return changed

    return difference(cfg, default_config()) | {"VERSION": cfg.VERSION}
