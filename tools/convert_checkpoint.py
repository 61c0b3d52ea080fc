r"""Convert checkpoints: official MetaPrompts to this package's format and back, and others.

    python tools/convert_checkpoint.py best_mIoU_iter_80000.pth cityscapes.pth \
        --config-out cityscapes.yaml
    python tools/train_net.py --config-file cityscapes.yaml --eval-only

`--to official` writes a file that the official code reads. `--to plain` merges adapters (LoRA) into
the weights of a training run. Both write the averages (EMA) where the input has some.

    python tools/convert_checkpoint.py output/model_best.pth plain.pth --to plain \
        --config-file output/config.yaml --config-out plain.yaml

`--to detectron2` converts Stable Diffusion (anything that MODEL.DIFFUSION.WEIGHTS takes) to a file
that other Detectron2 projects load by MODEL.WEIGHTS or train.init_checkpoint.

    python tools/convert_checkpoint.py /path/to/stable-diffusion-v1-5 sd15.pkl --to detectron2
"""

import argparse
from pathlib import Path
from typing import Any

import torch
import yaml
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_model
from detectron2.utils.file_io import PathManager

from metaprompt_d2.checkpoint import (
    AVERAGES,
    OfficialWeights,
    config_of_official,
    find_state_dict,
    from_official,
    is_official,
    load_checkpoint,
    load_diffusion_weights,
    non_finite,
    task_of,
    to_official,
    unwrap,
    use_averages,
    write_checkpoint,
    write_zoo_file,
)
from metaprompt_d2.config import default_config
from metaprompt_d2.diffusion import base_names, is_adapter, merge_lora
from metaprompt_d2.engine import load_config
from metaprompt_d2.modeling import MetaPromptBackbone
from metaprompt_d2.utils.errors import InputError, one_line_errors
from metaprompt_d2.utils.files import atomic_write

# Recipe of an official checkpoint, by task and number of classes. None stands for any number.
RECIPES = {
    "sem_seg": {19: "cityscapes_seg.yaml", 150: "ade20k_seg.yaml", None: "Base-SemSeg.yaml"},
    "depth": {None: "nyu_depth.yaml"},
}


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Parse and check the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("input", help="checkpoint, or Stable Diffusion, to read")
    parser.add_argument("output", type=Path, help="checkpoint to write")
    parser.add_argument(
        "--task",
        choices=("auto", "sem_seg", "depth"),
        default="auto",
        help="expected task of the checkpoint; auto accepts any",
    )
    parser.add_argument(
        "--to",
        choices=CONVERTERS,
        default="ours",
        help="format to write (default: %(default)s)",
    )
    parser.add_argument(
        "--config-file",
        type=Path,
        help="config of the training run that wrote the input, for --to plain; with --to ours it "
        "gives the values that no tensor shows, with --to detectron2 the adapters (LoRA) of the "
        "model that will load the output",
    )
    parser.add_argument(
        "--config-out",
        type=Path,
        help="YAML file to write, a config for train_net.py that runs the output",
    )
    args = parser.parse_args(argv)
    if args.to not in ("ours", "plain") and args.config_out:
        parser.error("--config-out goes with --to ours and --to plain only")
    if args.to == "official" and args.config_file:
        parser.error("--config-file does not go with --to official")
    if args.to == "plain" and not args.config_file:
        parser.error("--to plain needs --config-file")
    if args.to == "detectron2" and args.output.suffix != ".pkl":
        parser.error(f"output is {args.output}: Detectron2 needs the ending .pkl")
    if Path(args.input).resolve() == args.output.resolve():
        parser.error(f"input and output are both {args.input}")
    if not args.output.parent.is_dir():
        parser.error(f"the folder of {args.output} does not exist")
    return args


def read_state_dict(path: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read the state dict of a checkpoint, and the file's top-level dict.

    Averages (EMA), if there are some, replace the weights.

    Raises:
        InputError: Tensors hold NaN or infinity.
    """
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


def to_ours(args: argparse.Namespace) -> None:
    """Convert an official checkpoint to our format. Prints a report and the config keys."""
    state_dict, loaded = read_state_dict(args.input)
    if not is_official(state_dict):
        raise InputError(f"{args.input} has not the names of an official checkpoint")
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
    check_fit(cfg, weights.model, args.input)
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


def check_fit(cfg: CfgNode, given: dict[str, torch.Tensor], path: str) -> None:
    """Compare tensors with the model that a config builds. The model takes no memory.

    Raises:
        InputError: Tensors are missing, unknown or of another shape (all are listed).
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "meta"
    with torch.device("meta"):
        model = build_model(cfg).state_dict()
    problems = [f"{name}: missing" for name in model if name not in given]
    problems += [f"{name}: not in the model" for name in given if name not in model]
    problems += [
        f"{name}: {tuple(given[name].shape)} in the file, {tuple(value.shape)} in the model"
        for name, value in model.items()
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


def to_theirs(args: argparse.Namespace) -> None:
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


def to_plain(args: argparse.Namespace) -> None:
    """Convert a training run's checkpoint to the weights of a model without adapters."""
    state_dict, loaded = read_state_dict(args.input)
    keys = ["MODEL.DEVICE", "cpu", "TEST.AMP.ENABLED", "False"]  # merge in float32
    cfg = load_config(str(args.config_file), keys)
    check_fit(cfg, state_dict, args.input)
    if cfg.SOLVER.EMA.ENABLED and AVERAGES not in loaded:
        raise InputError(f"{args.input} has no averages, but SOLVER.EMA.ENABLED is True")
    model = build_model(cfg)
    model.load_state_dict(state_dict)
    merge_lora(model)
    print("tensors of adapters merged:", sum(map(is_adapter, state_dict)))
    write(args.output, {"model": base_names(model.state_dict())})
    keys = ["MODEL.WEIGHTS", str(args.output.resolve())]
    keys += ["MODEL.DIFFUSION.LORA.RANK", 0, "SOLVER.EMA.ENABLED", False]
    write_config(args, load_config(str(args.config_file), keys))


def to_detectron2(args: argparse.Namespace) -> None:
    """Convert Stable Diffusion to a file for models with a `MetaPromptBackbone` anywhere in them.

    Names begin with the backbone's own: shorter ends could fit other parts of a model, too.
    """
    keys = ["MODEL.DIFFUSION.WEIGHTS", args.input, "MODEL.DIFFUSION.SIZES_FROM_WEIGHTS", True]
    keys += ["MODEL.META_PROMPT.REFINE_STEPS", 2]  # reads the output head, too
    file = str(args.config_file or "metaprompt_d2://Base-MetaPrompt.yaml")
    cfg = load_config(file, keys)
    with torch.device("meta"):
        backbone = MetaPromptBackbone(cfg, ShapeSpec(channels=3))
    backbone.to_empty(device="cpu")
    print(load_diffusion_weights(backbone, PathManager.get_local_path(args.input)))
    weights = {
        name: value
        for name, value in backbone.state_dict().items()
        if name.startswith(("latent_encoder.", "refinement.unet.")) and not is_adapter(name)
    }
    write_zoo_file(args.output, weights, author="Stable Diffusion")
    print("wrote", args.output)


# Value of --to -> function.
CONVERTERS = {
    "ours": to_ours,
    "official": to_theirs,
    "plain": to_plain,
    "detectron2": to_detectron2,
}


@one_line_errors()
def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    args = parse_arguments(argv)
    CONVERTERS[args.to](args)


if __name__ == "__main__":
    main()
