"""The mini recipes at sizes where an iteration is quick, and readers of what a run wrote."""

import json
import re
import socket
from pathlib import Path

# Random weights, narrower than the mini diffusion model.
NARROW = """
    MODEL.DIFFUSION.WEIGHTS '' MODEL.DIFFUSION.UNET.BLOCK_OUT_CHANNELS (8,16,16,16)
    MODEL.DIFFUSION.UNET.CROSS_ATTENTION_DIM 16 MODEL.DIFFUSION.UNET.NUM_HEADS 2
    MODEL.DIFFUSION.UNET.NORM_NUM_GROUPS 4 MODEL.DIFFUSION.VAE.BLOCK_OUT_CHANNELS (4,8,8,8)
    MODEL.DIFFUSION.VAE.NORM_NUM_GROUPS 4 MODEL.META_PROMPT.NORM_NUM_GROUPS 4
""".split()

CONFIG = "configs/mini/cityscapes_seg.yaml"

PRETRAINED_SMALL = """
    INPUT.MIN_SIZE_TRAIN (64,) INPUT.MAX_SIZE_TRAIN 128 INPUT.MIN_SIZE_TEST 64
    INPUT.MAX_SIZE_TEST 128 INPUT.CROP.SIZE [64,64] SOLVER.IMS_PER_BATCH 2
    SOLVER.WARMUP_ITERS 2 SOLVER.WARMUP_FACTOR 0.5 SOLVER.LOG_PERIOD 1
    MODEL.SEM_SEG_HEAD.CONVS_DIM 16 MODEL.META_PROMPT.REFINE_STEPS 2
""".split()
SMALL = [*NARROW, *PRETRAINED_SMALL]

DEPTH_CONFIG = "configs/mini/kitti_depth.yaml"

PRETRAINED_DEPTH_SMALL = """
    INPUT.MIN_SIZE_TRAIN (64,) INPUT.MAX_SIZE_TRAIN 128 INPUT.MIN_SIZE_TEST 64
    INPUT.MAX_SIZE_TEST 128 INPUT.CROP.SIZE [64,64] SOLVER.IMS_PER_BATCH 2
    SOLVER.WARMUP_ITERS 2 SOLVER.WARMUP_FACTOR 0.5 SOLVER.LOG_PERIOD 1
    MODEL.DEPTH_HEAD.CONVS_DIM 8 MODEL.DEPTH_HEAD.DECONV_DIMS (8,8,8)
    MODEL.META_PROMPT.REFINE_STEPS 2
""".split()
DEPTH_SMALL = [*NARROW, *PRETRAINED_DEPTH_SMALL]

POSE_CONFIG = "configs/mini/coco_pose.yaml"

POSE_SMALL = [
    *NARROW,
    *"""
    INPUT.PERSON_CROP.SIZE (64,64) SOLVER.IMS_PER_BATCH 2 SOLVER.LOG_PERIOD 1
    SOLVER.WARMUP_ITERS 2 TEST.NUM_PICTURES 2
""".split(),
]

UNIVERSAL_CONFIG = "configs/mini/cityscapes_panoptic.yaml"

UNIVERSAL_SMALL = [
    *NARROW,
    *"""
    INPUT.MIN_SIZE_TRAIN (64,) INPUT.MAX_SIZE_TRAIN 128 INPUT.MIN_SIZE_TEST 64
    INPUT.MAX_SIZE_TEST 128 INPUT.CROP.SIZE [64,64] SOLVER.IMS_PER_BATCH 2
    SOLVER.WARMUP_ITERS 2 SOLVER.WARMUP_FACTOR 0.5 SOLVER.LOG_PERIOD 1
    MODEL.MASK2FORMER.DEC_LAYERS 2 MODEL.MASK2FORMER.NUM_OBJECT_QUERIES 8
    MODEL.MASK2FORMER.TEST.OBJECT_MASK_THRESHOLD 0.0 TEST.NUM_PICTURES 2
""".split(),
]


def losses(output_dir: Path) -> dict[int, list[dict]]:
    """Read the losses that a run and its resumptions wrote, by iteration."""
    result: dict[int, list[dict]] = {}
    for line in (output_dir / "metrics.json").read_text().splitlines():
        entry = json.loads(line)
        values = {key: value for key, value in entry.items() if "loss" in key}
        if values:
            result.setdefault(entry["iteration"], []).append(values)
    return result


def metrics_of(output: str) -> list[float]:
    """Read the metrics of an evaluation from Detectron2's last csv line."""
    (*_, line) = re.findall(r"copypaste: (-?[\d.,naninf-]+)$", output, re.MULTILINE)
    return [float(value) for value in line.split(",")]


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]
