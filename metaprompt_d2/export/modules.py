"""The models as plain functions of tensors, with everything that images don't change folded in."""

from collections.abc import Callable

import torch
from diffusers.models.downsampling import Downsample2D
from torch import Tensor, nn
from torch.nn import functional as F

from ..diffusion import MetaPrompts, RecurrentRefinement
from ..modeling.meta_arch import DepthEstimator, SlidingWindowSegmentor, TopDownPoseEstimator
from ..utils.errors import InputError

__all__ = ["ExportableModel", "make_exportable"]

_Model = SlidingWindowSegmentor | DepthEstimator | TopDownPoseEstimator


class ExportableModel(nn.Module):
    """Maps images (N, 3, H, W), float32 of 0..255 in the order of INPUT.FORMAT, to one tensor.

    * `sem_seg`: logits (N, K, H, W), or classes (N, H, W) int64 if `argmax` is set.
    * `depth`: meters (N, H, W).
    * `pose`: heatmaps (N, 17, H / 4, W / 4) of people's crops.

    The model runs once on the images. Windows, flips and the decoding of heatmaps are left to the
    caller.
    """

    def __init__(
        self, model: _Model, task: str, *, argmax: bool = False, dynamic_size: bool = False
    ):
        """
        Args:
            model: Model to export. Some of its layers are replaced for good.
            task: "sem_seg", "depth" or "pose".
            argmax: Whether to return classes instead of logits (`sem_seg` only).
            dynamic_size: Whether the program takes images of any size whose sides are multiples of
                `side_multiple`, from `least_side`.
        """
        super().__init__()
        self.model = model
        self.task = task
        self.argmax = argmax
        self.dynamic_size = dynamic_size
        # The backbone takes multiples of 64. A depth model resizes images to them, unless its
        # config turns that off.
        self.side_multiple, self.least_side = 64, 128
        if isinstance(model, DepthEstimator) and model.resize_scale > 0:
            self.side_multiple, self.least_side = getattr(model.depth_head, "upscale", 64), 64
        _replace_layers(model, _fold_prompts)
        _replace_layers(model, _replace_pooling)
        if dynamic_size:
            _replace_layers(model, _replace_downsampling)

    def forward(self, images: Tensor) -> Tensor:
        model = self.model
        outputs = model.predict_batch((images - model.pixel_mean) / model.pixel_std)
        if self.argmax:
            return outputs.argmax(dim=1)
        return outputs[:, 0] if self.task == "depth" else outputs


_TASKS = {
    "sem_seg": SlidingWindowSegmentor,
    "depth": DepthEstimator,
    "pose": TopDownPoseEstimator,
}


def make_exportable(
    model: nn.Module, *, argmax: bool = False, dynamic_size: bool = False
) -> ExportableModel:
    """Prepare a model for export.

    Args:
        model: One of this package's meta-architectures. It is changed and cannot be trained
            afterwards.
        argmax, dynamic_size: Arguments of `ExportableModel`.

    Raises:
        InputError: If the model is of another kind, if `argmax` is set for another task than
            segmentation, or if `dynamic_size` is set for pose.
    """
    task = next((name for name, kind in _TASKS.items() if isinstance(model, kind)), None)
    if task is None or not isinstance(model, _Model):
        names = [kind.__name__ for kind in _TASKS.values()]
        raise InputError(f"{type(model).__name__} cannot be exported, only {names}")
    if argmax and task != "sem_seg":
        raise InputError(f"a {task} model has no classes to take the best of")
    if dynamic_size and task == "pose":
        raise InputError("the crops of a pose model have one size")
    exportable = ExportableModel(model.eval(), task, argmax=argmax, dynamic_size=dynamic_size)
    return exportable.requires_grad_(False)


def _replace_layers(
    model: nn.Module, replace: Callable[[nn.Module, nn.Module], nn.Module | None]
) -> None:
    """Replace layers of a model in place.

    Args:
        model: Model to change.
        replace: Function from a module and one of its children to the child's replacement, or to
            None.
    """
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            new = replace(module, child)
            if new is not None:
                module.add_module(name, new)


class _EvenDownsample(nn.Module):
    """A 3x3 convolution of stride 2 and padding 1 for even sizes, which pads left and above only.

    Its output size is n / 2. The original's, (n - 1) // 2 + 1, is the same for even n, but a tracer
    of unknown n doesn't see that, and takes minutes to carry these expressions along.
    """

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.conv = conv
        conv.padding = (0, 0)

    def forward(self, x: Tensor, *args: object, **kwargs: object) -> Tensor:
        return self.conv(F.pad(x, (1, 0, 1, 0)))


class _FoldedPrompts(nn.Module):
    """The prompts of `MetaPrompts` for all steps as constants, after their adapters."""

    def __init__(self, prompts: MetaPrompts, num_steps: int):
        super().__init__()
        with torch.no_grad():
            for step in range(num_steps):
                self.register_buffer(f"step{step}", prompts(step).detach().clone())

    def forward(self, step: int) -> Tensor:
        return self.get_buffer(f"step{step}")


class _AdaptivePooling(nn.Module):
    """`nn.AdaptiveAvgPool2d` as two matrix products, one for each axis.

    ONNX has no adaptive pooling. The values are equal, also for sizes that are known only at run
    time.
    """

    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = (self._average_cells(side, x) for side in x.shape[-2:])
        return rows @ x @ columns.transpose(0, 1)

    def _average_cells(self, side: int, x: Tensor) -> Tensor:
        """Build (size, side): row i averages floor(i side / size) .. ceil((i + 1) side / size)."""
        cell = torch.arange(self.size, device=x.device)[:, None]
        position = torch.arange(side, device=x.device)[None]
        start = torch.div(cell * side, self.size, rounding_mode="floor")
        end = torch.div((cell + 1) * side + self.size - 1, self.size, rounding_mode="floor")
        inside = ((position >= start) & (position < end)).to(x.dtype)
        return inside / inside.sum(dim=1, keepdim=True)


def _fold_prompts(module: nn.Module, child: nn.Module) -> nn.Module | None:
    if isinstance(module, RecurrentRefinement) and child is module.meta_prompts:
        return _FoldedPrompts(module.meta_prompts, len(module.step_embeddings))
    return None


def _replace_pooling(module: nn.Module, child: nn.Module) -> nn.Module | None:
    return _AdaptivePooling(child.output_size) if isinstance(child, nn.AdaptiveAvgPool2d) else None


def _replace_downsampling(module: nn.Module, child: nn.Module) -> nn.Module | None:
    pads = isinstance(child, Downsample2D) and child.use_conv and child.padding == 1
    return _EvenDownsample(child.conv) if pads and isinstance(child.conv, nn.Conv2d) else None
