"""Adapters (LoRA) merged into the weights of a training run."""

import argparse

from detectron2.modeling import build_model

from converting.files import check_fit, expected_weights, read_state_dict, write, write_config
from metaprompt_d2.checkpoint import AVERAGES
from metaprompt_d2.checkpoint.versions import versions_of, with_versions
from metaprompt_d2.diffusion import base_names, is_adapter, merge_lora
from metaprompt_d2.engine import load_config
from metaprompt_d2.utils.errors import InputError


def to_plain(args: argparse.Namespace) -> None:
    """Convert a training run's checkpoint to the weights of a model without adapters."""
    state_dict, loaded = read_state_dict(args.input)
    keys = ["MODEL.DEVICE", "cpu", "TEST.AMP.ENABLED", "False"]  # merge in float32
    cfg = load_config(str(args.config_file), keys)
    check_fit(expected_weights(cfg), state_dict, args.input)
    if cfg.SOLVER.EMA.ENABLED and AVERAGES not in loaded:
        raise InputError(f"{args.input} has no averages, but SOLVER.EMA.ENABLED is True")
    model = build_model(cfg)
    model.load_state_dict(state_dict)
    merge_lora(model)
    print("tensors of adapters merged:", sum(map(is_adapter, state_dict)))
    merged = model.state_dict()
    write(args.output, {"model": with_versions(base_names(merged), versions_of(merged))})
    keys = ["MODEL.WEIGHTS", str(args.output.resolve())]
    keys += ["MODEL.DIFFUSION.LORA.RANK", 0, "SOLVER.EMA.ENABLED", False]
    write_config(args, load_config(str(args.config_file), keys))
