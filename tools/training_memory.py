r"""Count the memory of a training step for several keys, without having that memory or a GPU.

    python tools/training_memory.py --config-file configs/nyu_depth.yaml \
        SOLVER.AMP.ENABLED True SOLVER.AMP.DTYPE bfloat16
    python tools/training_memory.py --config-file configs/nyu_depth.yaml --ladder --images 1 4

Tensors are fake (torch's FakeTensorMode): they have sizes and lifetimes, but no values. The count
includes the storages of all tensors in an update, after the optimizer has created its state. It
doesn't include what a device needs in addition: CUDA's context (about 0.5 GiB), workspaces of
kernels, gaps of the allocator. --run also runs the step on MODEL.DEVICE with random values and
measures its peak. On a GPU, --ladder --run runs all combinations and counts nothing that is fake.
"""

import argparse
import gc
import resource
import weakref
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import astuple, dataclass
from typing import Any

import torch
from benchmarking.samples import training_inputs
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import ImageList
from tabulate import tabulate
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

import metaprompt_d2  # noqa: F401  (fills the registries)
from metaprompt_d2.config import check_combinations
from metaprompt_d2.diffusion.speedups import optimize_for_training
from metaprompt_d2.engine import WeightAverage, build_optimizer, convert_frozen_weights, load_config
from metaprompt_d2.utils.errors import InputError, one_line_errors
from metaprompt_d2.utils.tasks import find_task

GIB = 2**30

# Name -> keys, from the largest to the smallest memory.
BF16 = ["SOLVER.AMP.ENABLED", True, "SOLVER.AMP.DTYPE", "bfloat16"]
RECOMPUTED = [*BF16, "MODEL.DIFFUSION.GRADIENT_CHECKPOINTING", True]
CONVERTED = ["SOLVER.AMP.CONVERT_FROZEN", True]
LADDER = {
    "float32": [],
    "bf16": BF16,
    "bf16, finest level recomputed": [
        *RECOMPUTED,
        *("MODEL.DIFFUSION.GRADIENT_CHECKPOINTING_LEVELS", (0,)),
    ],
    "bf16, checkpointing": RECOMPUTED,
    "bf16, LoRA": [*BF16, "MODEL.DIFFUSION.LORA.RANK", 16],
    "bf16, checkpointing, LoRA": [*RECOMPUTED, "MODEL.DIFFUSION.LORA.RANK", 16],
    "bf16, LoRA, converted": [*BF16, *CONVERTED, "MODEL.DIFFUSION.LORA.RANK", 16],
    "bf16, checkpointing, LoRA, converted": [
        *RECOMPUTED,
        *CONVERTED,
        *("MODEL.DIFFUSION.LORA.RANK", 16),
    ],
    "bf16, frozen UNet": [*BF16, "MODEL.DIFFUSION.FREEZE_UNET", True],
    "bf16, checkpointing, frozen UNet": [*RECOMPUTED, "MODEL.DIFFUSION.FREEZE_UNET", True],
    "bf16, frozen UNet, converted": [*BF16, *CONVERTED, "MODEL.DIFFUSION.FREEZE_UNET", True],
    "bf16, checkpointing, frozen UNet, converted": [
        *RECOMPUTED,
        *CONVERTED,
        *("MODEL.DIFFUSION.FREEZE_UNET", True),
    ],
}


@dataclass
class Count:
    """Memory of an update in bytes."""

    weights: int = 0  # parameters and buffers
    gradients: int = 0
    states: int = 0  # optimizer and averages (SOLVER.EMA)
    activations: int = 0  # between the forward and the backward pass
    peak: int = 0


class LiveStorages(TorchDispatchMode):
    """Sums the storages of all tensors that operators return, until they are freed.

    torch's own MemTracker can't run modules with frozen parameters, such as the VAE.
    """

    def __init__(self):
        super().__init__()
        self.current = self.peak = 0
        self._known: WeakIdKeyDictionary = WeakIdKeyDictionary()

    def __torch_dispatch__(
        self, func: Callable, types: tuple, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._add(leaf.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        if storage not in self._known:
            size = storage.nbytes()
            self._known[storage] = size
            self.current += size
            self.peak = max(self.peak, self.current)
            weakref.finalize(storage, self._remove, size)

    def _remove(self, size: int) -> None:
        self.current -= size


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Parse and check the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True)
    parser.add_argument(
        "--images", type=int, nargs="+", default=[1], help="images per process; default: 1"
    )
    parser.add_argument("--ladder", action="store_true", help="count several combinations of keys")
    parser.add_argument("--run", action="store_true", help="measure a step on MODEL.DEVICE, too")
    parser.add_argument("opts", nargs="*", default=[], help="config keys and values")
    args = parser.parse_intermixed_args(argv)
    if min(args.images) < 1:
        parser.error("--images must be at least 1")
    if args.run and not args.ladder and len(args.images) > 1:
        parser.error("--run measures one step: give one number of images")
    return args


def count(cfg: CfgNode, num_images: int, *, fake: bool = True) -> Count:
    """Count the memory of an update after the first one, on crops of the config's size.

    Args:
        cfg: Config of the training.
        num_images: Images per forward pass.
        fake: Whether to run on fake tensors.

    Raises:
        InputError: The task isn't one of this package's, or keys contradict each other.
    """
    check_combinations(cfg)
    if find_task(cfg) not in ("depth", "pose", "sem_seg"):
        raise InputError(
            f"MODEL.META_ARCHITECTURE {cfg.MODEL.META_ARCHITECTURE}: only depth, pose and "
            "segmentation"
        )
    model = without_memory(cfg) if fake else None
    with ExitStack() as stack:
        if fake:
            stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        live = stack.enter_context(LiveStorages())
        stack.enter_context(WithoutValues())
        stack.enter_context(images_of_one_size())
        model = model.to_empty(device="cpu") if fake else model_in_training(cfg)
        bytes_ = Count(weights=live.current)
        optimizer = build_optimizer(cfg, model)
        average = WeightAverage(model, cfg.SOLVER.EMA.DECAY) if cfg.SOLVER.EMA.ENABLED else None
        # The first update creates gradients and optimizer states.
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = torch.zeros_like(parameter)
                bytes_.gradients += parameter.nbytes
        update(optimizer, average)
        bytes_.states = live.current - bytes_.weights
        live.peak = live.current
        for _ in range(cfg.SOLVER.ACCUMULATION_STEPS):
            before = live.current
            loss = forward(cfg, model, num_images)
            bytes_.activations = live.current - before
            loss.backward()
            del loss
        update(optimizer, average)
        bytes_.peak = live.peak
    return bytes_


def update(optimizer: torch.optim.Optimizer, average: WeightAverage | None) -> None:
    """Update the weights as the training loop does."""
    optimizer.step()
    if average is not None:
        average.update()
    optimizer.zero_grad()


class WithoutValues(TorchFunctionMode):
    """Lets the Lovasz loss see all classes instead of those in the ground truth."""

    def __torch_function__(
        self, func: Callable, types: tuple, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return slice(None) if func is torch.isin else func(*args, **(kwargs or {}))


def run_norms_in_float32(model: nn.Module) -> None:
    """Let autocast run norms in float32, as it does on GPUs."""

    def cast(norm: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor] | None:
        return (inputs[0].float(),) if torch.is_autocast_enabled("cpu") else None

    for module in model.modules():
        if isinstance(module, nn.GroupNorm | nn.LayerNorm):
            module.register_forward_pre_hook(cast)


@contextmanager
def images_of_one_size() -> Iterator[None]:
    """Let `ImageList` stack images; it would read their sizes from tensors otherwise."""

    def stack(tensors: list[Tensor], *_: Any, **__: Any) -> ImageList:
        return ImageList(torch.stack(tensors), [tuple(t.shape[-2:]) for t in tensors])

    own = ImageList.from_tensors
    ImageList.from_tensors = staticmethod(stack)
    try:
        yield
    finally:
        ImageList.from_tensors = staticmethod(own)


def without_memory(cfg: CfgNode) -> nn.Module:
    """Build the model on the meta device."""
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.DEVICE = "meta"
    return model_in_training(cfg)


def model_in_training(cfg: CfgNode) -> nn.Module:
    """Build the model as the trainer does, with random weights drawn on its device."""
    with torch.device(cfg.MODEL.DEVICE):
        model = build_model(cfg)
    optimize_for_training(model)
    run_norms_in_float32(model)
    if cfg.SOLVER.AMP.CONVERT_FROZEN:
        convert_frozen_weights(model, getattr(torch, cfg.SOLVER.AMP.DTYPE))
    return model


def forward(cfg: CfgNode, model: nn.Module, num_images: int) -> Tensor:
    """Compute the sum of the losses of random crops."""
    device = next(model.parameters()).device.type
    crop = cfg.INPUT.PERSON_CROP if find_task(cfg) == "pose" else cfg.INPUT.CROP
    inputs = training_inputs(cfg, num_images, tuple(crop.SIZE))
    dtype = getattr(torch, cfg.SOLVER.AMP.DTYPE)
    with torch.autocast(device, dtype=dtype, enabled=cfg.SOLVER.AMP.ENABLED):
        return sum(model(inputs).values())


def measured_peak(device: str) -> int:
    """Give the peak memory of this process, or of its GPU's allocator, in bytes."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def run_on_gpu(cfg: CfgNode, num_images: int) -> tuple[int, ...]:
    """Run an update; returns the numbers of `Count` and the allocator's peak, in bytes.

    Raises:
        InputError: MODEL.DEVICE isn't a GPU. Linux doesn't let a process reset its peak.
    """
    if not cfg.MODEL.DEVICE.startswith("cuda"):
        raise InputError(f"--ladder --run needs a GPU; MODEL.DEVICE is {cfg.MODEL.DEVICE}")
    gc.collect()  # the model of the row before
    torch.cuda.reset_peak_memory_stats()
    counted = count(cfg, num_images, fake=False)
    return *astuple(counted), measured_peak(cfg.MODEL.DEVICE)


@one_line_errors()
def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    args = parse_arguments(argv)
    rungs = LADDER if args.ladder else {"as configured": []}
    runs_all = args.run and args.ladder
    rows = []
    for name, keys in rungs.items():
        cfg = load_config(args.config_file, [*args.opts, *keys])
        for number in args.images:
            sizes = run_on_gpu(cfg, number) if runs_all else astuple(count(cfg, number))
            rows.append((name, number, *(size / GIB for size in sizes)))
            if runs_all:
                print(f"{name}, {number} image(s): {sizes[-1] / GIB:.2f} GiB", flush=True)
    columns = ["keys", "images", "weights", "gradients", "states", "activations", "peak"]
    print(f"GiB, {'run' if runs_all else 'counted'}:")
    print(tabulate(rows, [*columns, "allocator's peak"][: len(rows[0])], "github", floatfmt=".2f"))
    if args.run and not runs_all:
        before = measured_peak(cfg.MODEL.DEVICE)
        again = count(cfg, args.images[0], fake=False)
        peak = measured_peak(cfg.MODEL.DEVICE)
        print(f"GiB, run on {cfg.MODEL.DEVICE}: counted {again.peak / GIB:.2f}, ", end="")
        print(f"measured {peak / GIB:.2f}, of it before the model {before / GIB:.2f}")


if __name__ == "__main__":
    main()
