"""Random inputs of the tasks, and their outputs as one tensor."""

import torch
from detectron2.config import CfgNode
from detectron2.structures import BitMasks, Instances
from torch import Tensor

from metaprompt_d2.utils.errors import InputError
from metaprompt_d2.utils.tasks import find_task

__all__ = ["dense_output", "inference_inputs", "training_inputs"]

_SEED = 1
_SEGMENTS = 10  # of an image


def inference_inputs(batch_size: int, size: tuple[int, int]) -> list[dict]:
    """Make a dict per image (3, height, width) of 0..255; for pose, an image is one person."""
    images = torch.randint(256, (batch_size, 3, *size), generator=_generator()).float()
    return [{"image": image} for image in images]


def training_inputs(cfg: CfgNode, batch_size: int, size: tuple[int, int]) -> list[dict]:
    """Make a dict with random ground truth per training sample.

    Raises:
        InputError: The meta-architecture isn't one of this package.
    """
    inputs = inference_inputs(batch_size, size)
    generator = _generator()
    task = find_task(cfg)
    for item in inputs:
        item["file_name"] = "random"
        if task == "sem_seg":
            item["sem_seg"] = torch.randint(
                cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES, size, generator=generator
            )
        elif task == "depth":
            share = torch.rand(size, generator=generator) * 0.9 + 0.05
            item["depth"] = share * cfg.MODEL.DEPTH_HEAD.MAX_DEPTH
        elif task == "pose":
            height, width = (side // cfg.MODEL.HEATMAP_HEAD.STRIDE for side in size)
            count = cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS
            item["heatmaps"] = torch.rand(count, height, width, generator=generator)
            item["keypoint_weights"] = torch.ones(count)
        elif task == "universal":
            classes = torch.randint(
                cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES, (_SEGMENTS,), generator=generator
            )
            owners = torch.randint(_SEGMENTS, size, generator=generator)
            masks = BitMasks(owners == torch.arange(_SEGMENTS)[:, None, None])
            item["instances"] = Instances(size, gt_classes=classes, gt_masks=masks)
        else:
            raise InputError(
                f"MODEL.META_ARCHITECTURE is {cfg.MODEL.META_ARCHITECTURE!r}, for which training "
                "samples are not known"
            )
    return inputs


def dense_output(outputs: list[dict]) -> Tensor:
    """Stack logits, depth or heatmaps of all images as float32 on the CPU.

    Raises:
        InputError: The outputs don't contain any of them.
    """
    parts = []
    for output in outputs:
        if "sem_seg" in output:
            parts.append(output["sem_seg"])
        elif "depth" in output:
            parts.append(output["depth"])
        elif "instances" in output and output["instances"].has("pred_keypoint_heatmaps"):
            parts.append(output["instances"].pred_keypoint_heatmaps)
        else:
            raise InputError(f"outputs hold {list(output)}, expected sem_seg, depth or heatmaps")
    return torch.stack([part.float().cpu() for part in parts])


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(_SEED)
