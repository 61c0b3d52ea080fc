"""The smallest model of each task and its training loop, on random samples."""

import itertools

import torch
from benchmarking.samples import training_inputs
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from helpers import TWO_LEVELS, smallest_cfg, smallest_depth_cfg
from mask2former_models import UNIVERSAL
from pose_files import smallest_pose_cfg

from metaprompt_d2.diffusion.speedups import optimize_for_training
from metaprompt_d2.engine import TrainLoop, WeightAverage, build_optimizer

TASKS = ("sem_seg", "depth", "pose", "universal")


def config_of(task: str, device: torch.device) -> CfgNode:
    keys = {"MODEL.DEVICE": str(device)}
    if task == "sem_seg":
        return smallest_cfg(TWO_LEVELS | keys)
    if task == "depth":
        return smallest_depth_cfg(TWO_LEVELS | keys)
    if task == "pose":
        return smallest_pose_cfg({"INPUT.PERSON_CROP.SIZE": (64, 64)} | keys)
    return smallest_cfg(UNIVERSAL | keys)


def training_loop(
    task: str,
    device: torch.device,
    *,
    dtype: torch.dtype | None = None,
    compile_mode: str = "",
    averages: bool = False,
    scale: float = 128.0,
    **options,
) -> TrainLoop:
    """Make a training on two images of 64x64, as the trainer does.

    Args:
        task: One of `TASKS`.
        device: Device of the model. Images for a GPU lie in pinned memory, as from a loader.
        dtype: Autocast type.
        compile_mode: Mode of `torch.compile`; "" to run eagerly.
        averages: Whether to average the weights.
        scale: First scale of float16's losses. The usual 2**16 overflows at first.
        options: Arguments of `TrainLoop`.
    """
    torch.manual_seed(0)
    cfg = config_of(task, device)
    model = build_model(cfg).train()
    optimize_for_training(model, compile_mode=compile_mode)
    inputs = training_inputs(cfg, 2, (64, 64))
    for item in inputs if device.type == "cuda" else ():
        tensors = {name: value for name, value in item.items() if torch.is_tensor(value)}
        item.update({name: value.pin_memory() for name, value in tensors.items()})
    optimizer = build_optimizer(cfg, model)
    average = WeightAverage(model, 0.9) if averages else None
    batches = itertools.repeat(inputs)
    loop = TrainLoop(model, batches, optimizer, seed=0, amp_dtype=dtype, average=average, **options)
    if loop.grad_scaler.is_enabled():
        loop.grad_scaler.load_state_dict(loop.grad_scaler.state_dict() | {"scale": scale})
    loop.iter = loop.start_iter = 0
    return loop


def run(loop: TrainLoop, steps: int = 1) -> list[float]:
    """Run some iterations; returns their losses."""
    losses = []
    for _ in range(steps):
        with EventStorage() as storage:
            loop.run_step()
        losses.append(storage.latest()["total_loss"][0])
        loop.iter += 1
    return losses
