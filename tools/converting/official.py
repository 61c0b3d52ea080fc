"""Official MetaPrompts checkpoints, both ways."""

import argparse
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode

from converting.files import (
    check_fit,
    check_task,
    expected_weights,
    read_state_dict,
    write,
    write_config,
)
from metaprompt_d2.checkpoint import (
    OfficialWeights,
    config_of_official,
    from_official,
    task_of,
    to_official,
)
from metaprompt_d2.engine import load_config
from metaprompt_d2.utils.errors import InputError

# Recipe of an official checkpoint, by task and number of classes. None stands for any number.
RECIPES = {
    "sem_seg": {19: "cityscapes_seg.yaml", 150: "ade20k_seg.yaml", None: "Base-SemSeg.yaml"},
    "depth": {None: "nyu_depth.yaml"},
}


def official_to_ours(
    args: argparse.Namespace, state_dict: dict[str, torch.Tensor], loaded: dict[str, Any]
) -> None:
    """Convert an official checkpoint to our format. Prints a report and the config keys.

    Args:
        args: The command line.
        state_dict: The official tensors.
        loaded: Top-level dict of the file.
    """
    weights = from_official(state_dict)
    check_task(args.task, weights.task, args.input)
    keys, unseen = config_of_official(weights)
    recipes = RECIPES[weights.task]
    recipe = recipes.get(keys.get("MODEL.SEM_SEG_HEAD.NUM_CLASSES"), recipes[None])
    if args.config_file:
        recipe = str(args.config_file)
        keys, unseen = {key: keys[key] for key in keys if key not in unseen}, []
    keys["MODEL.WEIGHTS"] = str(args.output.resolve())
    cfg = load_config_of(recipe, keys, unseen)
    check_fit(expected_weights(cfg), weights.model, args.input)
    print(weights.report(args.input))
    print("config keys, with those of", recipe)
    for key, value in keys.items():
        note = "  (as published; no tensor tells)" if key in unseen else ""
        print(f"  {key} {value}{note}")
    if not cfg.DATASETS.TEST:
        print("  DATASETS.TEST is left empty: no registered dataset is known to have its classes")
    official = {"task": weights.task, "unused": weights.unused}
    if isinstance(loaded.get("meta"), dict):
        official["meta"] = loaded["meta"]
    write(args.output, {"model": weights.model, "official": official, "__author__": "MetaPrompts"})
    write_config(args, cfg)


def load_config_of(recipe: str, keys: dict[str, Any], unseen: list[str]) -> CfgNode:
    """Load a recipe with the keys that the tensors show, and those that they don't show.

    Raises:
        InputError: The published values of `unseen` don't go with the tensors.
    """
    file = recipe if Path(recipe).is_file() else f"metaprompt_d2://{recipe}"
    try:
        return load_config(file, [part for pair in keys.items() for part in pair])
    except InputError as error:
        if not unseen:
            raise
        raise InputError(
            f"{error}. No tensor shows {', '.join(unseen)}: --config-file gives their values"
        ) from error


def ours_to_official(args: argparse.Namespace) -> None:
    """Convert our checkpoint to the official format."""
    state_dict, loaded = read_state_dict(args.input)
    task = task_of(state_dict)
    check_task(args.task, task, args.input)
    kept = loaded.get("official", {})
    official = to_official(OfficialWeights(task, state_dict, kept.get("unused", {})))
    print(f"{args.input}: {len(state_dict)} tensors used, {len(official)} written")
    if not kept:
        print("  weights that the official code has but never reads are zero")
    if task == "depth":
        write(args.output, {"model": official})
    else:
        write(args.output, {"meta": kept.get("meta", {}), "state_dict": official})
