"""The models as plain functions of tensors, with everything that images don't change folded in."""

import torch
from diffusers.models.downsampling import Downsample2D
from torch import Tensor, nn
from torch.nn import functional as F

from ..diffusion import MetaPrompts
from ..modeling import DepthEstimator, SlidingWindowSegmentor, TaskModel, UniversalSegmentor
from ..utils.errors import InputError


class ExportableModel(nn.Module):
    """Maps images (N, 3, H, W), float32 of 0..255 in the order of INPUT.FORMAT, to its output.

    * `sem_seg`: logits (N, K, H, W), or classes (N, H, W) int64 if `argmax` is set.
    * `depth`: meters (N, H, W).
    * `pose`: heatmaps (N, keypoints, H / 4, W / 4) of people's crops.
    * `universal`: {"class_logits": (N, Q, K + 1), "mask_logits": (N, Q, H, W)} of the Q queries,
      from which `modeling.mask_classification` makes segments; or classes as for `sem_seg`.

    The model runs once. Windows, flips and the decoding of heatmaps are left to the caller.
    """

    def __init__(self, model: nn.Module, *, argmax: bool = False, dynamic_size: bool = False):
        """
        Args:
            model: One of this package's meta-architectures. Some of its layers are replaced, and it
                cannot be trained afterwards.
            argmax: Whether to return classes instead of logits (`sem_seg` and `universal`).
            dynamic_size: Whether the program takes images of any size whose sides are multiples of
                `side_multiple`, from `least_side` (neither for `pose` nor for `universal`).

        Raises:
            InputError: The model is of another kind, or an argument doesn't fit its task.
        """
        super().__init__()
        if not isinstance(model, TaskModel):
            raise InputError(
                f"{type(model).__name__} cannot be exported, only the meta-architectures of "
                "metaprompt_d2.modeling"
            )
        self.model = model
        self.task = model.task
        if argmax and not isinstance(model, SlidingWindowSegmentor):
            raise InputError(f"a {self.task} model has no classes to take the best of")
        if dynamic_size and self.task == "pose":
            raise InputError("the crops of a pose model have one size")
        if dynamic_size and self.task == "universal":
            raise InputError(
                "a universal model is exported for one size, because transformers' deformable "
                "attention keeps that of the example"
            )
        self.argmax = argmax
        self.dynamic_size = dynamic_size
        # The backbone takes multiples of 64. A depth model resizes images to them, unless its
        # config turns that off.
        self.side_multiple, self.least_side = 64, 128
        if isinstance(model, DepthEstimator) and model.resize_scale > 0:
            self.side_multiple, self.least_side = getattr(model.depth_head, "upscale", 64), 64
        _replace_layers(model, dynamic_size)
        self.eval().requires_grad_(False)

    def forward(self, images: Tensor) -> Tensor | dict[str, Tensor]:
        model = self.model
        normalized = (images - model.pixel_mean) / model.pixel_std
        if isinstance(model, UniversalSegmentor) and not self.argmax:
            classes, masks = model.predict_queries(normalized)
            return {"class_logits": classes, "mask_logits": masks}
        outputs = model.predict_batch(normalized)
        if self.argmax:
            return outputs.argmax(dim=1)
        return outputs[:, 0] if self.task == "depth" else outputs


def _replace_layers(model: nn.Module, dynamic_size: bool) -> None:
    """Fold adapters into prompts, and replace layers by equal ones that can be exported."""
    for module in list(model.modules()):
        if isinstance(module, MetaPrompts):
            with torch.no_grad():
                for prompts, adapter in zip(module.embeddings, module.adapters, strict=False):
                    prompts.copy_(adapter(prompts))
            module.adapters = nn.ModuleList()
        for name, child in list(module.named_children()):
            if isinstance(child, nn.AdaptiveAvgPool2d) and isinstance(child.output_size, int):
                module.add_module(name, _AdaptivePooling(child.output_size))
            is_padded = isinstance(child, Downsample2D) and child.padding == 1
            if dynamic_size and is_padded and isinstance(child.conv, nn.Conv2d):
                module.add_module(name, _EvenDownsample(child.conv))


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


class _AdaptivePooling(nn.Module):
    """`nn.AdaptiveAvgPool2d` as two matrix products, one for each axis.

    ONNX has no adaptive pooling. The values are equal, for sizes known only at run time as well.
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
