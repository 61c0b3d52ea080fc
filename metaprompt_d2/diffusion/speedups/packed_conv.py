"""Convolutions that keep their kernels in oneDNN's order, for inference on a CPU."""

import math
import threading
from typing import Any

import torch
from torch import Tensor, nn

# Only the first of several threads packs a kernel.
_LOCK = threading.Lock()


class PackedConv2d(nn.Conv2d):
    """A convolution that reorders its kernel for oneDNN once instead of at every call.

    The first call without gradients packs the kernel for images of that size; other sizes work,
    but more slowly. Packing frees the original kernel: `weight` stays the same parameter with the
    same shape, but all its elements are a single NaN, and writing to it raises an error. The
    kernel is restored when the layer is saved, loaded, moved or copied, and where oneDNN can't be
    used (on GPUs, under autocast). A pass that needs gradients turns the layer back into an
    `nn.Conv2d`, so that whoever trains it, with any optimizer, trains a plain kernel.
    """

    _packed: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        if not torch.compiler.is_compiling():
            if _needs_gradient(x, self.weight, self.bias):
                self.unpack()
                self.__class__ = nn.Conv2d  # type: ignore[assignment]  # mypy wants a subclass
            elif self._can_use_onednn(x):
                kernel = self._packed_kernel(x.shape)
                return torch.ops.mkldnn._convolution_pointwise(
                    x, kernel, self.bias, *self._geometry(), "none", [], ""
                )
        if self._packed is not None:
            self.unpack()
        return nn.Conv2d.forward(self, x)

    def unpack(self) -> None:
        """Restore the original kernel."""
        with _LOCK:
            if self._packed is not None and _is_hollow(self.weight):
                self.weight.data = self._packed.to_dense()
            self._packed = None

    def _can_use_onednn(self, x: Tensor) -> bool:
        return (
            x.is_cpu
            and x.dtype == self.weight.dtype
            and x.numel() > 0
            and self.weight.grad is None  # an optimizer is about to write to the kernel
            and torch.backends.mkldnn.is_available()
            and bool(torch.backends.mkldnn.enabled)
            and _has_instructions(x.dtype)
            and not torch.is_autocast_enabled("cpu")
        )

    def _packed_kernel(self, image_shape: torch.Size) -> Tensor:
        with _LOCK:
            # Somebody may have replaced the weight since it was packed.
            if self._packed is None or not _is_hollow(self.weight):
                plain = self.weight.detach()
                self._packed = torch.ops.mkldnn._reorder_convolution_weight(
                    plain, *self._geometry(), image_shape
                )
                self.weight.data = plain.new_full((), math.nan).expand_as(plain)
            return self._packed

    def _geometry(self) -> tuple:
        return self.padding, self.stride, self.dilation, self.groups

    def _apply(self, *args: Any, **kwargs: Any) -> "PackedConv2d":
        self.unpack()
        return super()._apply(*args, **kwargs)

    def _save_to_state_dict(self, *args: Any) -> None:
        self.unpack()
        super()._save_to_state_dict(*args)

    def _load_from_state_dict(self, *args: Any) -> None:
        self.unpack()
        super()._load_from_state_dict(*args)

    def __getstate__(self) -> dict[str, Any]:
        self.unpack()
        return self.__dict__


def pack_convolutions(network: nn.Module) -> None:
    """Turn the convolutions of a network into `PackedConv2d`, in place.

    Subclasses of `nn.Conv2d`, kernels of a single element, and convolutions that pad with anything
    but a number of zeros stay as they are.
    """
    for module in network.modules():
        if type(module) is not nn.Conv2d:
            continue
        pads_zeros = module.padding_mode == "zeros" and not isinstance(module.padding, str)
        if pads_zeros and module.weight.numel() > 1:
            module.__class__ = PackedConv2d


def _is_hollow(weight: Tensor) -> bool:
    """Whether a kernel's elements were freed, so that one element stands for all."""
    return weight.untyped_storage().nbytes() < weight.nbytes


def _needs_gradient(*tensors: Tensor | None) -> bool:
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def _has_instructions(dtype: torch.dtype) -> bool:
    if dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    if dtype == torch.float16:
        return torch.ops.mkldnn._is_mkldnn_fp16_supported()
    return dtype == torch.float32
