"""Convolutions whose kernels lie in memory as oneDNN reads them, for inference on a CPU."""

import threading
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["PackedConv2d", "pack_convolutions"]


# A kernel is brought into order once, whichever thread comes first.
_LOCK = threading.Lock()


class PackedConv2d(nn.Conv2d):
    """A convolution that brings its kernel into oneDNN's order once instead of at every call.

    It does so at its first call without gradients, for images of that size (others run, too, if
    slower), and lets go of the plain kernel: `weight` is the same parameter as ever, but without
    elements, until somebody saves, loads, moves, copies or trains the layer, which brings the plain
    kernel back. Where oneDNN has no part (on GPUs, under autocast, while a program is compiled or
    exported) it is an `nn.Conv2d`.
    """

    _packed: Tensor | None = None

    @classmethod
    def replace(cls, parent: nn.Module, name: str) -> None:
        """Put one that has the same parameters in place of a module's convolution."""
        conv = getattr(parent, name)
        layer = cls(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size,
            conv.stride,
            conv.padding,
            conv.dilation,
            conv.groups,
            device="meta",
        ).train(conv.training)
        layer.weight, layer.bias = conv.weight, conv.bias
        setattr(parent, name, layer)

    def forward(self, x: Tensor) -> Tensor:
        if not _is_for_onednn(x) or x.dtype != self.weight.dtype:
            if self._packed is not None:
                self.unpack()
            return super().forward(x)
        geometry = self.padding, self.stride, self.dilation, self.groups
        with _LOCK:
            if self._packed is None:
                plain = self.weight.detach()
                self._packed = torch.ops.mkldnn._reorder_convolution_weight(
                    plain, *geometry, x.shape
                )
                self.weight.data = plain.new_empty(0)
        return torch.ops.mkldnn._convolution_pointwise(
            x, self._packed, self.bias, *geometry, "none", [], ""
        )

    def unpack(self) -> None:
        """Bring the plain kernel back."""
        with _LOCK:
            if self._packed is not None:
                self.weight.data = self._packed.to_dense()
                self._packed = None

    def train(self, mode: bool = True) -> "PackedConv2d":
        if mode:
            self.unpack()
        return super().train(mode)

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
    """Let the convolutions of a network keep their kernels in oneDNN's order.

    Subclasses of `nn.Conv2d`, and what doesn't pad with a number of zeros, stay as they are.
    """
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            is_plain = type(child) is nn.Conv2d and child.padding_mode == "zeros"
            if is_plain and not isinstance(child.padding, str):
                PackedConv2d.replace(parent, name)


def _is_for_onednn(x: Tensor) -> bool:
    """Whether oneDNN computes an image's convolutions here, and nothing has to look inside."""
    return (
        not torch.compiler.is_compiling()  # first: what follows would break a graph
        and x.device.type == "cpu"
        and torch.backends.mkldnn.is_available()
        and torch.backends.mkldnn.enabled
        and x.numel() > 0
        and _has_instructions(x.dtype)
        and not torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
    )


def _has_instructions(dtype: torch.dtype) -> bool:
    if dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    if dtype == torch.float16:
        return torch.ops.mkldnn._is_mkldnn_fp16_supported()
    return dtype == torch.float32
