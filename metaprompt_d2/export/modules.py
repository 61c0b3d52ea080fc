"""The models as plain functions of tensors, with everything folded in that images don't change."""

import torch
from diffusers.models.downsampling import Downsample2D
from torch import Tensor, nn
from torch.nn import functional as F

from ..diffusion import MetaPrompts
from ..modeling import TaskModel
from ..utils.errors import InputError

__all__ = ["ExportableModel", "exportable"]


class ExportableModel(nn.Module):
    """Images (N, 3, H, W) in, float32 of 0..255 in `INPUT.FORMAT`; one tensor out.

    * `sem_seg`: logits (N, K, H, W), or the classes (N, H, W) int64 where `argmax`;
    * `depth`: metres (N, H, W);
    * `pose`: heatmaps (N, 17, H / 4, W / 4) of people's crops.

    One pass of whole images: windows, mirror images and decoding of heatmaps are the caller's.
    """

    def __init__(
        self, model: nn.Module, task: str, *, argmax: bool = False, dynamic_size: bool = False
    ):
        """
        Args:
            model: its prompts, poolings and downsamplings are replaced for good.
            task: "sem_seg", "depth" or "pose".
            argmax: give classes in place of logits; of `sem_seg` alone.
            dynamic_size: for images whose sides are multiples of `side_multiple` only.
        """
        super().__init__()
        self.model = model
        self.task = task
        self.argmax = argmax
        self.dynamic_size = dynamic_size
        # Sides of a dynamic size: multiples of this, from that on. A depth model resizes images
        # itself, to multiples of 64, unless its config says otherwise.
        resizes = task == "depth" and model.resize_scale > 0
        self.side_multiple = getattr(model.depth_head, "upscale", 64) if resizes else 64
        self.least_side = 64 if resizes else 128
        _fold_constants(model)
        if dynamic_size:
            _halve_even_sizes(model)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> what the class says."""
        model = self.model
        outputs = model.predict_batch((images - model.pixel_mean) / model.pixel_std)
        if self.task == "sem_seg" and self.argmax:
            return outputs.argmax(dim=1)
        return outputs[:, 0] if self.task == "depth" else outputs


def exportable(
    model: nn.Module, *, argmax: bool = False, dynamic_size: bool = False
) -> ExportableModel:
    """
    Args:
        model: one of this package's meta-architectures; it is changed, and not for training.
        argmax, dynamic_size: as in `ExportableModel`.

    Raises:
        InputError: another meta-architecture, `argmax` for another task, or a dynamic size of
            crops.
    """
    if not isinstance(model, TaskModel):
        raise InputError(
            f"{type(model).__name__} cannot be exported, only the meta-architectures of "
            "metaprompt_d2.modeling"
        )
    task = model.task
    if argmax and task != "sem_seg":
        raise InputError(f"a {task} model has no classes to take the best of")
    if dynamic_size and task == "pose":
        raise InputError("the crops of a pose model have one size")
    made = ExportableModel(model.eval(), task, argmax=argmax, dynamic_size=dynamic_size)
    return made.requires_grad_(False)


def _fold_constants(model: nn.Module) -> None:
    """Replace prompts and their adapters by the result, and poolings by what exports exactly."""
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, MetaPrompts):
                setattr(module, name, _FoldedPrompts(child, len(module.step_embeddings)))
            elif isinstance(child, nn.AdaptiveAvgPool2d):
                setattr(module, name, _AdaptivePooling(child.output_size))


def _halve_even_sizes(model: nn.Module) -> None:
    """Replace the UNet's downsamplings by what is the same on even sizes.

    Their size (n - 1) // 2 + 1 is n / 2 there, which a tracer of unknown n doesn't see; it would
    carry all such expressions along, for minutes.
    """
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            pads = isinstance(child, Downsample2D) and child.use_conv and child.padding == 1
            if pads and isinstance(child.conv, nn.Conv2d):
                setattr(module, name, _EvenDownsample(child.conv))


class _EvenDownsample(nn.Module):
    """A 3x3 convolution of stride 2 and padding 1, for even sizes: it pads left and above only."""

    def __init__(self, conv: nn.Conv2d):
        super().__init__()
        self.conv = conv
        conv.padding = (0, 0)

    def forward(self, x: Tensor, *args: object, **kwargs: object) -> Tensor:
        return self.conv(F.pad(x, (1, 0, 1, 0)))


class _FoldedPrompts(nn.Module):
    """`MetaPrompts` whose adapters have been run: constants."""

    def __init__(self, prompts: MetaPrompts, num_steps: int):
        super().__init__()
        with torch.no_grad():
            for step in range(num_steps):
                self.register_buffer(f"step{step}", prompts(step).detach().clone())

    def forward(self, step: int) -> Tensor:
        return self.get_buffer(f"step{step}")


class _AdaptivePooling(nn.Module):
    """`nn.AdaptiveAvgPool2d` as two products with the axes' averaging matrices.

    ONNX has no adaptive pooling; for sizes that are known at run time only, this has its values.
    """

    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = (self._averaging(side, x) for side in x.shape[-2:])
        return rows @ x @ columns.transpose(0, 1)

    def _averaging(self, side: int, x: Tensor) -> Tensor:
        """(size, side): row i averages positions floor(i side / size) .. ceil((i+1) side / size)"""
        cell = torch.arange(self.size, device=x.device)[:, None]
        position = torch.arange(side, device=x.device)[None]
        start = torch.div(cell * side, self.size, rounding_mode="floor")
        end = torch.div((cell + 1) * side + self.size - 1, self.size, rounding_mode="floor")
        inside = ((position >= start) & (position < end)).to(x.dtype)
        return inside / inside.sum(dim=1, keepdim=True)
