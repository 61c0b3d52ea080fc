"""Measure variants of a model in turns, so that other load affects all of them."""

import itertools
import math
import statistics
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field

import torch
from detectron2.config import CfgNode
from detectron2.utils.events import EventStorage
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from metaprompt_d2.engine import TrainLoop, build_optimizer
from metaprompt_d2.modeling import attention_flops, attention_gradient_flops

from .machine import PeakMemory, seconds
from .samples import dense_output, inference_inputs, training_inputs
from .variants import Variant

__all__ = ["Measurement", "Workload", "measure", "stays"]

_TURN = 0.3  # least seconds per turn of a variant, within _MAX_CALLS
_MAX_CALLS = 20
# Torch's counter misses fused attention on CPUs. On GPUs it counts scores that are computed again.
_KERNELS = (
    "flash_attention_for_cpu",
    "flash_attention",
    "efficient_attention",
    "cudnn_attention",
)
_FLOPS = {torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: attention_flops} | {
    getattr(torch.ops.aten, f"_scaled_dot_product_{kernel}_backward"): attention_gradient_flops
    for kernel in _KERNELS
}


@dataclass
class Measurement:
    """Measurement of a variant.

    Attributes:
        variant: The variant.
        times: Seconds of the calls; empty if the GPU's memory was too small.
        first: Seconds of the first call, or of the second one if the first allocates a lot.
        memory: Bytes of weights and a call and, in training, of gradients and optimizer; None if
            the system doesn't tell.
        output: Dense output, or the first step's loss in training.
        flops: Additions and multiplications of a call. Only counted for the first variant that
            runs.
    """

    variant: Variant
    times: list[float] = field(default_factory=list)
    first: float = math.nan
    memory: int | None = None
    output: Tensor | None = None
    flops: int = 0

    @property
    def median(self) -> float:
        return statistics.median(self.times)

    def difference(self, reference: "Measurement") -> dict[str, float]:
        """Compute the largest and the root mean square difference of the outputs.

        `..._by_std` is relative to the output's standard deviation, or to the loss.
        """
        error, size = (self.output - reference.output).double(), reference.output.double()
        scale = size.std() if size.numel() > 1 else size.abs()
        largest, rms = error.abs().max(), error.square().mean().sqrt()
        return {
            "max": largest.item(),
            "rms_by_std": (rms / scale).item(),
            "max_by_std": (largest / scale).item(),
        }


@dataclass(frozen=True)
class Workload:
    """The work of a call.

    Attributes:
        train: Whether a call is a training step instead of a prediction.
        batch_size: Number of images.
        size: (height, width) of the images.
    """

    train: bool
    batch_size: int
    size: tuple[int, int]

    def __str__(self) -> str:
        """Describe the work for the progress bar."""
        height, width = self.size
        what = "training" if self.train else "inference"
        return f"{what}, {self.batch_size} x {height}x{width}"

    def call(self, cfg: CfgNode, model: nn.Module, variant: Variant) -> Callable[[], Tensor]:
        """Make a function that calls a variant's model and returns the output to compare."""
        if self.train:
            return _training_call(
                cfg, model, variant, training_inputs(cfg, self.batch_size, self.size)
            )
        return _inference_call(model, inference_inputs(self.batch_size, self.size))


def measure(
    cfg: CfgNode, model: nn.Module, variants: Sequence[Variant], work: Workload, *, rounds: int
) -> list[Measurement]:
    """Measure variants of a model on random images.

    Args:
        cfg: Config of the model.
        model: Model with the weights that all variants start with.
        variants: Variants, `plain` first, whose operations are counted.
        work: Work of a call.
        rounds: Turns per variant.
    """
    results = [Measurement(variant) for variant in variants]
    kept: dict[str, Callable[[], Tensor]] = {}
    turns = tqdm(list(itertools.product(range(rounds), results)), unit="turn", disable=None)
    for number, result in turns:
        turns.set_description(f"{work}, {result.variant.name}")
        if result.times or number == 0:
            counts = not any(other.flops for other in results)
            with suppress(torch.OutOfMemoryError):
                _turn(cfg, model, result, work, kept, counts=counts)
    if any(variant.compile_mode for variant in variants):
        torch.compiler.reset()  # CUDA graphs hold memory
    return results


def _turn(
    cfg: CfgNode,
    model: nn.Module,
    result: Measurement,
    work: Workload,
    kept: dict[str, Callable[[], Tensor]],
    *,
    counts: bool,
) -> None:
    """Time some calls of a variant, and add it to `kept` if it stays in memory."""
    variant, device = result.variant, next(model.parameters()).device
    with variant.running():
        call = kept.get(variant.name)
        if call is None:
            clone = variant.applied_to(model, train=work.train)
            call = work.call(cfg, clone, variant)
            if not result.times:
                _first_calls(result, call, clone, counts=counts)
            elif work.train or variant.packed:
                call()  # creates gradients and the optimizer's state, or packs kernels
        calls = min(max(math.ceil(_TURN / result.first), 1), _MAX_CALLS)
        result.times += [seconds(call, device) for _ in range(calls)]
    if stays(variant, work, device):
        kept[variant.name] = call


def stays(variant: Variant, work: Workload, device: torch.device) -> bool:
    """Tell whether a variant stays in memory between turns instead of being built again.

    Compiled variants do. Otherwise, in training or on a CPU, only one variant is in memory: it has
    its own weights, which take 15 GB with gradients and optimizer at the size of SD 1.5.
    """
    return bool(variant.compile_mode) or (device.type == "cuda" and not work.train)


def _first_calls(
    result: Measurement, call: Callable[[], Tensor], model: nn.Module, *, counts: bool
) -> None:
    """Run the calls that allocate and compile, and record output, peak memory and operations."""
    device = next(model.parameters()).device
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    outputs = []
    counter = FlopCounterMode(display=False, custom_mapping=_FLOPS) if counts else nullcontext()
    with PeakMemory(device) as peak:
        with counter:
            result.first = seconds(lambda: outputs.append(call()), device)
        if model.training or device.type == "cuda":
            result.first = seconds(call, device)
    result.output = outputs[0]
    result.memory = None if peak.growth is None else weights + peak.growth
    result.flops = counter.get_total_flops() if counts else 0


def _inference_call(model: nn.Module, inputs: list[dict]) -> Callable[[], Tensor]:
    if hasattr(model, "keep_heatmaps"):
        model.keep_heatmaps = True

    @torch.no_grad()
    def call() -> Tensor:
        return dense_output(model(inputs))

    return call


def _training_call(
    cfg: CfgNode, model: nn.Module, variant: Variant, inputs: list[dict]
) -> Callable[[], Tensor]:
    optimizer = build_optimizer(cfg, model)
    for group in () if variant.fused_optimizer else optimizer.param_groups:
        group.update(fused=False, foreach=None)
    loop = TrainLoop(model, itertools.repeat(inputs), optimizer, seed=0, amp_dtype=variant.dtype)
    loop.iter = 0

    def call() -> Tensor:
        with EventStorage() as storage:
            loop.run_step()
        return torch.tensor(storage.latest()["total_loss"][0])

    return call
