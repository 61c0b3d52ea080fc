"""Tiny sizes, random inputs and small datasets for the tests."""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch
from config_keys import leaves
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.builtin_meta import _get_builtin_metadata
from detectron2.data.datasets.cityscapes import load_cityscapes_semantic
from detectron2.modeling import build_backbone, build_model
from torch import nn

from metaprompt_d2.config import read_config_file
from metaprompt_d2.diffusion import FeatureUNet, LatentEncoder, MetaPrompts, RecurrentRefinement
from metaprompt_d2.engine import load_config

NUM_CLASSES = 11
NUM_PROMPTS = 24
PROMPT_DIM = 48

# The sizes of the golden fixtures' tier "c1222".
UNET_SIZES = {
    "block_out_channels": (32, 64, 64, 64),
    "cross_attention_dim": PROMPT_DIM,
    "num_heads": 8,
    "norm_num_groups": 32,
}
# And of their tier "m64".
M64_SIZES = UNET_SIZES | {"block_out_channels": (64, 64, 64, 64)}
VAE_SIZES = {"block_out_channels": (32, 32, 32, 64), "norm_num_groups": 32}

# The same as config overrides, with images that are in [-1, 1] already.
TINY = {
    "MODEL.DEVICE": "cpu",
    "MODEL.PIXEL_MEAN": [0.0, 0.0, 0.0],
    "MODEL.PIXEL_STD": [1.0, 1.0, 1.0],
    "MODEL.DIFFUSION.UNET.BLOCK_OUT_CHANNELS": UNET_SIZES["block_out_channels"],
    "MODEL.DIFFUSION.UNET.CROSS_ATTENTION_DIM": PROMPT_DIM,
    "MODEL.DIFFUSION.VAE.BLOCK_OUT_CHANNELS": VAE_SIZES["block_out_channels"],
    "MODEL.META_PROMPT.NUM_PROMPTS": NUM_PROMPTS,
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": NUM_CLASSES,
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 32,
    "MODEL.SEM_SEG_HEAD.DROPOUT": 0.0,
    "TEST.SLIDING_WINDOW.SIZE": (128, 128),
    "TEST.SLIDING_WINDOW.STRIDE": (85, 85),
}

# Smaller still, for tests that do not compare with the golden values.
SMALLEST = {
    "MODEL.DIFFUSION.UNET.BLOCK_OUT_CHANNELS": (8, 16, 16, 16),
    "MODEL.DIFFUSION.UNET.LAYERS_PER_BLOCK": 1,
    "MODEL.DIFFUSION.UNET.CROSS_ATTENTION_DIM": 16,
    "MODEL.DIFFUSION.UNET.NUM_HEADS": 2,
    "MODEL.DIFFUSION.UNET.NORM_NUM_GROUPS": 4,
    "MODEL.DIFFUSION.VAE.BLOCK_OUT_CHANNELS": (4, 8, 8, 8),
    "MODEL.DIFFUSION.VAE.LAYERS_PER_BLOCK": 1,
    "MODEL.DIFFUSION.VAE.NORM_NUM_GROUPS": 4,
    "MODEL.META_PROMPT.NUM_PROMPTS": 6,
    "MODEL.META_PROMPT.NORM_NUM_GROUPS": 4,
    "MODEL.META_PROMPT.DECONV_CHANNELS": 4,
    "MODEL.META_PROMPT.REFINE_STEPS": 2,
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 8,
}

# On top of these for exports, compilation and fake tensors, which take time for each layer.
TWO_LEVELS = {
    "MODEL.DIFFUSION.UNET.BLOCK_OUT_CHANNELS": (8, 16),
    "MODEL.SEM_SEG_HEAD.IN_FEATURES": ("p2", "p3"),
    "MODEL.SEM_SEG_HEAD.AUX_IN_FEATURE": "p3",
}

# The official depth recipe on top of these, with images in [0, 1].
DEPTH = {
    "MODEL.META_ARCHITECTURE": "DepthEstimator",
    "MODEL.PIXEL_MEAN": [0.5, 0.5, 0.5],
    "MODEL.PIXEL_STD": [0.5, 0.5, 0.5],
    "INPUT.MIN_SIZE_TRAIN": (0,),
    "INPUT.MIN_SIZE_TEST": 0,
    "MODEL.META_PROMPT.NUM_PROMPTS": 50,
    "MODEL.META_PROMPT.PER_STEP": True,
    "MODEL.META_PROMPT.ADAPTER": True,
    "MODEL.META_PROMPT.REARRANGE": "fused",
    "SOLVER.BASE_LR": 5e-4,
    "SOLVER.WEIGHT_DECAY": 0.1,
    "SOLVER.DECAY_VECTORS": False,
    "SOLVER.PARAM_RULES": [[r"\.unet\.", 0.01, 1.0]],
    "SOLVER.LR_SCHEDULER_NAME": "RiseAndFallPolyLR",
    "SOLVER.LR_PEAK_AT": 12 / 25,
    "SOLVER.POLY_LR_POWER": 0.9,
    "SOLVER.POLY_LR_CONSTANT_ENDING": 0.06,
    "SOLVER.MAX_ITER": 500,
}
SMALLEST_DEPTH = DEPTH | {
    "MODEL.META_PROMPT.NUM_PROMPTS": 6,
    "MODEL.DEPTH_HEAD.DECONV_DIMS": (4, 4, 4),
    "MODEL.DEPTH_HEAD.CONVS_DIM": 8,
}


def tiny_cfg(overrides: dict | None = None) -> CfgNode:
    """Cityscapes' recipe at the golden fixtures' sizes; `overrides` win."""
    settings = _recipe() | TINY | (overrides or {})
    return load_config("", [part for pair in settings.items() for part in pair])


@cache
def _recipe() -> dict:
    """Read Cityscapes' recipe once: that takes as long as building a model."""
    return dict(leaves(read_config_file("metaprompt_d2://cityscapes_seg.yaml")))


def smallest_cfg(overrides: dict | None = None) -> CfgNode:
    """As `tiny_cfg`, narrower and with fewer blocks."""
    return tiny_cfg(SMALLEST | (overrides or {}))


def tiny_model(overrides: dict | None = None) -> nn.Module:
    """The whole segmentation model of `tiny_cfg`."""
    return build_model(tiny_cfg(overrides))


def smallest_model(overrides: dict | None = None) -> nn.Module:
    """The whole segmentation model of `smallest_cfg`."""
    return build_model(smallest_cfg(overrides))


def tiny_depth_cfg(overrides: dict | None = None) -> CfgNode:
    """NYU Depth v2's recipe at the golden fixtures' sizes; `overrides` win."""
    return tiny_cfg(DEPTH | (overrides or {}))


def smallest_depth_cfg(overrides: dict | None = None) -> CfgNode:
    """As `tiny_depth_cfg`, narrower and with fewer blocks."""
    return smallest_cfg(SMALLEST_DEPTH | (overrides or {}))


def smallest_depth_model(overrides: dict | None = None) -> nn.Module:
    """The whole depth model of `smallest_depth_cfg`."""
    return build_model(smallest_depth_cfg(overrides))


def smallest_backbone(overrides: dict | None = None) -> nn.Module:
    """`MetaPromptBackbone` of `smallest_cfg`."""
    return build_backbone(smallest_cfg(overrides))


def smallest_unet(**arguments) -> FeatureUNet:
    """A `FeatureUNet` of four narrow levels."""
    sizes = {
        "block_out_channels": (8, 16, 16, 16),
        "layers_per_block": 1,
        "cross_attention_dim": 16,
        "num_heads": 2,
        "norm_num_groups": 4,
    }
    return FeatureUNet(**(sizes | arguments))


def smallest_vae(**arguments) -> LatentEncoder:
    """A `LatentEncoder` of four narrow levels, stride 8."""
    sizes = {"block_out_channels": (4, 8, 8, 8), "layers_per_block": 1, "norm_num_groups": 4}
    return LatentEncoder(**(sizes | arguments))


def smallest_refinement(num_steps: int, **prompt_arguments) -> RecurrentRefinement:
    """`RecurrentRefinement` of `smallest_unet` with 6 prompts."""
    return RecurrentRefinement(
        unet=smallest_unet(),
        meta_prompts=MetaPrompts(num_prompts=6, dim=16, num_steps=num_steps, **prompt_arguments),
        num_steps=num_steps,
    )


def unet_inputs(unet: FeatureUNet, height: int, width: int, batch_size: int = 1) -> tuple:
    """Random latent, step embedding and context of 5 tokens."""
    return (
        torch.randn(batch_size, unet.config.in_channels, height, width),
        torch.randn(batch_size, unet.step_embedding_dim),
        torch.randn(batch_size, 5, unet.config.cross_attention_dim),
    )


def random_image(height: int, width: int) -> torch.Tensor:
    """(3, height, width) in [-1, 1]."""
    return torch.rand(3, height, width) * 2 - 1


def random_labels(height: int, width: int, num_classes: int = NUM_CLASSES) -> torch.Tensor:
    """(height, width) class ids, the first row ignored."""
    labels = torch.randint(num_classes, (height, width))
    labels[0] = 255
    return labels


def train_inputs(sizes: list[tuple[int, int]], num_classes: int = NUM_CLASSES) -> list[dict]:
    """Random training inputs of a segmentor, one for each (height, width)."""
    return [
        {"image": random_image(*size), "sem_seg": random_labels(*size, num_classes)}
        for size in sizes
    ]


def depth_inputs(sizes: list[tuple[int, int]]) -> list[dict]:
    """Random training inputs of a depth model, one for each (height, width), every third valid."""
    return [
        {
            "image": torch.rand(3, *size),
            "depth": (torch.rand(size) * 9 + 1) * (torch.rand(size) < 1 / 3),
        }
        for size in sizes
    ]


def write_cityscapes(
    root: Path, *, num_images: int = 3, height: int = 24, width: int = 48, seed: int = 0
) -> None:
    """Random images and labels as Cityscapes lays them out, below `root`.

    Makes `leftImg8bit/<city>` and `gtFine/<city>` with label ids, train ids, instance ids and the
    polygon files' sizes. Every image holds road (train id 0) left and car (13) right, so that no
    class is rare, and an ignored (0) first row.
    """
    random = np.random.default_rng(seed)
    for index in range(num_images):
        stem = f"town/town_{index:06d}_000000"
        image_file = root / f"leftImg8bit/{stem}_leftImg8bit.png"
        truth_file = root / f"gtFine/{stem}_gtFine"
        for file in (image_file, truth_file):
            file.parent.mkdir(parents=True, exist_ok=True)
        border = int(random.integers(width // 3, 2 * width // 3))
        label_ids = np.full((height, width), 7, np.uint8)  # road
        label_ids[:, border:] = 26  # car
        train_ids = np.where(label_ids == 7, 0, 13).astype(np.uint8)
        instance_ids = np.where(label_ids == 26, 26000 + index, 7).astype(np.uint16)
        label_ids[0], train_ids[0], instance_ids[0] = 0, 255, 0
        cv2.imwrite(str(image_file), random.integers(0, 256, (height, width, 3), np.uint8))
        cv2.imwrite(f"{truth_file}_labelIds.png", label_ids)
        cv2.imwrite(f"{truth_file}_labelTrainIds.png", train_ids)
        cv2.imwrite(f"{truth_file}_instanceIds.png", instance_ids)
        size = {"imgHeight": height, "imgWidth": width, "objects": []}
        Path(f"{truth_file}_polygons.json").write_text(json.dumps(size))


@contextmanager
def registered_cityscapes(root: Path) -> Iterator[str]:
    """Name under which the folder of `write_cityscapes` is registered meanwhile."""
    name = f"test_cityscapes_{uuid.uuid4().hex}"
    image_dir, gt_dir = str(root / "leftImg8bit"), str(root / "gtFine")
    DatasetCatalog.register(name, lambda: load_cityscapes_semantic(image_dir, gt_dir))
    MetadataCatalog.get(name).set(
        image_dir=image_dir,
        gt_dir=gt_dir,
        evaluator_type="cityscapes_sem_seg",
        ignore_label=255,
        **_get_builtin_metadata("cityscapes"),
    )
    try:
        yield name
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
