"""Stable Diffusion for other Detectron2 projects."""

import argparse

import torch
from detectron2.layers import ShapeSpec
from detectron2.utils.file_io import PathManager

from metaprompt_d2.checkpoint import load_diffusion_weights, write_zoo_file
from metaprompt_d2.diffusion import is_adapter
from metaprompt_d2.engine import load_config
from metaprompt_d2.modeling import MetaPromptBackbone


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
