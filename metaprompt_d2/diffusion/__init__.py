"""The paper's idea in torch and diffusers alone: encoder, prompts, UNet, loop, rearrangement."""

from .latent_encoder import LatentEncoder
from .lora import add_lora, base_names, is_adapter, merge_lora
from .meta_prompts import MetaPrompts, respond
from .rearrangement import FusedRearrangement, PyramidRearrangement
from .refinement import RecurrentRefinement, RefinementStep
from .unet import FeatureUNet

__all__ = [
    "FeatureUNet",
    "FusedRearrangement",
    "LatentEncoder",
    "MetaPrompts",
    "PyramidRearrangement",
    "RecurrentRefinement",
    "RefinementStep",
    "add_lora",
    "base_names",
    "is_adapter",
    "merge_lora",
    "respond",
]
