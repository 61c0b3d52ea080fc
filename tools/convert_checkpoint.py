"""Convert checkpoints of the official MetaPrompts code to this package's, and back.

    python tools/convert_checkpoint.py best_mIoU_iter_80000.pth cityscapes.pth \
        --config-out cityscapes.yaml
    python tools/train_net.py --config-file cityscapes.yaml --eval-only

`--to official` writes a file that the official code reads, key for key. `--to plain` writes what a
training evaluates as weights of a plain model, with averages in their place and adapters merged:

    python tools/convert_checkpoint.py output/model_best.pth plain.pth --to plain \
        --config-file output/config.yaml --config-out plain.yaml
"""

import argparse
from pathlib import Path

import torch
import yaml
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import build_model

from metaprompt_d2 import add_metaprompt_config
from metaprompt_d2.checkpoint import (
    OfficialWeights,
    config_of_official,
    from_official,
    is_official,
    load_checkpoint,
    non_finite,
    task_of,
    to_official,
)
from metaprompt_d2.diffusion import base_names, is_adapter, merge_lora
from metaprompt_d2.engine import load_config, load_model
from metaprompt_d2.utils.errors import InputError, one_line_errors
from metaprompt_d2.utils.files import atomic_write

# Recipe of a published checkpoint, by task and number of classes; None is any other.
RECIPES = {
    "sem_seg": {19: "cityscapes_seg.yaml", 150: "ade20k_seg.yaml", None: "Base-SemSeg.yaml"},
    "depth": {None: "nyu_depth.yaml"},
}


class ConversionError(InputError):
    """The input cannot be converted; the message lists why."""


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Parse and check the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("input", type=Path, help="checkpoint to read")
    parser.add_argument("output", type=Path, help="checkpoint to write")
    parser.add_argument(
        "--task",
        choices=("auto", "sem_seg", "depth"),
        default="auto",
        help="what the checkpoint must be for; auto: told by its names",
    )
    parser.add_argument(
        "--to", choices=("ours", "official", "plain"), default="ours", help="layout to write"
    )
    parser.add_argument(
        "--config-file", type=Path, help="of the training that wrote the input; for --to plain"
    )
    parser.add_argument(
        "--config-out", type=Path, help="YAML to write, with which train_net.py runs the checkpoint"
    )
    args = parser.parse_args(argv)
    if args.to == "official" and args.config_out:
        parser.error("--config-out goes with --to ours and --to plain only")
    if (args.to == "plain") != (args.config_file is not None):
        parser.error("--to plain and --config-file go together")
    if args.input.resolve() == args.output.resolve():
        parser.error(f"input and output are both {args.input}")
    if not args.output.parent.is_dir():
        parser.error(f"the folder of {args.output} does not exist")
    return args


def read_state_dict(path: Path) -> tuple[dict, dict]:
    """The state dict of a checkpoint, and the file's other entries."""
    loaded = load_checkpoint(path, mapped=True)
    rest = loaded if isinstance(loaded, dict) else {}
    for key in ("state_dict", "model"):
        if isinstance(rest.get(key), dict):
            state_dict = rest[key]
            break
    else:
        state_dict, rest = rest, {}
    state_dict = {k: v for k, v in state_dict.items() if isinstance(v, torch.Tensor)}
    if not state_dict:
        raise ConversionError(f"{path} holds no state dict")
    broken = non_finite(state_dict)
    if broken:
        raise ConversionError(f"{path}: {len(broken)} tensors hold NaN or infinity: {broken}")
    return state_dict, rest


def check_task(expected: str, task: str, path: Path) -> None:
    """
    Raises:
        ConversionError: another task was asked for.
    """
    if expected not in ("auto", task):
        raise ConversionError(f"{path} is a {task} checkpoint, but --task is {expected}")


def to_ours(args: argparse.Namespace) -> None:
    """Official checkpoint -> ours, with report, config keys and, where asked for, the YAML."""
    state_dict, rest = read_state_dict(args.input)
    if not is_official(state_dict):
        raise ConversionError(f"{args.input} has not the names of an official checkpoint")
    weights = from_official(state_dict)
    check_task(args.task, weights.task, args.input)
    keys, untold = config_of_official(weights)
    recipes = RECIPES[weights.task]
    recipe = recipes.get(keys.get("MODEL.SEM_SEG_HEAD.NUM_CLASSES"), recipes[None])
    keys["MODEL.WEIGHTS"] = str(args.output.resolve())
    cfg = load_config(f"metaprompt_d2://{recipe}", [part for pair in keys.items() for part in pair])
    check_fit(cfg, weights.model, args.input)
    print(weights.report(str(args.input)))
    print("config keys, with those of", recipe)
    for key, value in keys.items():
        note = "  (as published; no tensor tells)" if key in untold else ""
        print(f"  {key} {value}{note}")
    if not cfg.DATASETS.TEST:
        print("  DATASETS.TEST is left empty: no registered data set is known to have its classes")
    official = {"task": weights.task, "unused": weights.unused}
    official |= {"meta": rest["meta"]} if isinstance(rest.get("meta"), dict) else {}
    data = {"model": weights.model, "official": official, "__author__": "MetaPrompts"}
    atomic_write(args.output, lambda stream: torch.save(data, stream))
    print("wrote", args.output)
    write_config(args, cfg)


def write_config(args: argparse.Namespace, cfg: CfgNode) -> None:
    """Write --config-out, where asked for."""
    if args.config_out:
        content = yaml.safe_dump(changed_keys(cfg), default_flow_style=False)
        atomic_write(args.config_out, lambda stream: stream.write(content.encode()))
        print("wrote", args.config_out)


def check_fit(cfg: CfgNode, given: dict[str, torch.Tensor], path: Path) -> None:
    """Compare with the model that a config builds, name by name, without memory for it.

    Raises:
        ConversionError: listing what is missing, unknown or of another shape.
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
        raise ConversionError(
            f"{path} does not fit the model, {len(problems)} tensors:\n  " + "\n  ".join(problems)
        )


def changed_keys(cfg: CfgNode) -> dict:
    """The keys that differ from the defaults, nested as in YAML."""
    defaults = get_cfg()
    add_metaprompt_config(defaults)

    def difference(node: CfgNode, default: CfgNode) -> dict:
        changed = {}
        for key, value in node.items():
            if isinstance(value, CfgNode):
                inner = difference(value, default[key])
                changed |= {key: inner} if inner else {}
            elif value != default[key] and key != "DEVICE":
                changed[key] = list(value) if isinstance(value, tuple) else value
        return changed

    return difference(cfg, defaults) | {"VERSION": cfg.VERSION}


def to_theirs(args: argparse.Namespace) -> None:
    """Our checkpoint -> official layout."""
    state_dict, rest = read_state_dict(args.input)
    task = task_of(state_dict)
    check_task(args.task, task, args.input)
    kept = rest.get("official", {})
    weights = OfficialWeights(task, state_dict, kept.get("unused", {}))
    official = to_official(weights)
    data = {"meta": kept.get("meta", {}), "state_dict": official}
    if task == "depth":
        data = {"model": official}
    atomic_write(args.output, lambda stream: torch.save(data, stream))
    print(f"{args.input}: {len(state_dict)} tensors used, {len(official)} written")
    if not kept:
        print("  weights that the official code has but never reads are zero")
    print("wrote", args.output)


def to_plain(args: argparse.Namespace) -> None:
    """Checkpoint of a training -> weights of a model without adapters, as they are evaluated."""
    overrides = ["MODEL.WEIGHTS", str(args.input), "MODEL.DEVICE", "cpu"]
    overrides += ["TEST.AMP.ENABLED", "False"]  # merge in float32
    cfg = load_config(str(args.config_file), overrides)
    state_dict, rest = read_state_dict(args.input)
    check_fit(cfg, state_dict, args.input)
    averages = cfg.SOLVER.EMA.ENABLED
    if averages and "ema" not in rest:
        raise ConversionError(f"{args.input} has no averages, but SOLVER.EMA.ENABLED is True")
    model = load_model(cfg)
    merge_lora(model)
    plain = base_names(model.state_dict())
    atomic_write(args.output, lambda stream: torch.save({"model": plain}, stream))
    print("weights:", "their averages (SOLVER.EMA)" if averages else "as they are")
    print("tensors of adapters merged:", sum(map(is_adapter, state_dict)))
    print("wrote", args.output)
    keys = {"MODEL.WEIGHTS": str(args.output.resolve()), "MODEL.DIFFUSION.LORA.RANK": 0}
    keys["SOLVER.EMA.ENABLED"] = False
    pairs = [part for pair in keys.items() for part in pair]
    write_config(args, load_config(str(args.config_file), pairs))


@one_line_errors()
def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    args = parse_arguments(argv)
    {"ours": to_ours, "official": to_theirs, "plain": to_plain}[args.to](args)


if __name__ == "__main__":
    main()
