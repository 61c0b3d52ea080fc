"""Projections of prompts and step embeddings, which no image changes, kept between images."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["ConditionLinear", "KeptProjections"]


class ConditionLinear(nn.Linear):
    """A linear layer that reads what steers the UNet, not the image.

    While `output` is set, the layer returns it for every item of a batch. Place, parameters and
    their names are those of the layer it is made from, so that attention processors, adapters and
    compilation work as ever.
    """

    output: Tensor | None = None  # of one item: (1, ..., out_features)

    @classmethod
    def replace(cls, parent: nn.Module, name: str) -> "ConditionLinear":
        """Put one that has the same parameters in place of a module's linear layer."""
        linear = getattr(parent, name)
        layer = cls(linear.in_features, linear.out_features, device="meta")
        layer.weight, layer.bias = linear.weight, linear.bias
        setattr(parent, name, layer)
        return layer

    def forward(self, x: Tensor) -> Tensor:
        if self.output is None:
            return super().forward(x)
        return self.output.expand(*x.shape[:-1], -1)


class KeptProjections:
    """What a UNet's layers make of each refinement step's embedding and prompts, in inference.

    Kept outputs are made anew once anything that they come from was written to, moved or
    converted, after a pass with gradients, and under another autocast. Writing through
    `Tensor.data` is invisible to that: `forget`, which `train` and `eval` of the UNet call, must
    follow it.
    """

    def __init__(
        self, *, of_embedding: Iterable[ConditionLinear], of_prompts: Iterable[ConditionLinear]
    ):
        """
        Args:
            of_embedding: layers that read the step embedding behind a SiLU, as residual blocks do.
            of_prompts: layers that read the prompts: keys and values of cross-attention.
        """
        self._of_embedding = list(of_embedding)
        self._of_prompts = list(of_prompts)
        self._kept: dict[int, tuple[tuple, list[Tensor]]] = {}

    def forget(self) -> None:
        """Make everything anew at the next pass."""
        self._kept.clear()

    @contextmanager
    def used(
        self, step: int, embedding: Tensor, prompts: Tensor, origins: Iterable[Tensor]
    ) -> Iterator[None]:
        """Within it the layers return what they make of these inputs; nothing with gradients.

        Args:
            step: number under which the outputs are kept.
            embedding: (1, dim).
            prompts: (num_prompts, dim).
            origins: parameters that embedding and prompts were computed from.
        """
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            self.forget()  # fused optimizers write without counting
            yield
            return
        layers = self._of_embedding + self._of_prompts
        weights = (weight for layer in layers for weight in layer.parameters())
        state = _state(embedding, [*weights, *origins])
        if step not in self._kept or self._kept[step][0] != state:
            activated = F.silu(embedding)
            outputs = [layer(activated) for layer in self._of_embedding]
            outputs += [layer(prompts[None]) for layer in self._of_prompts]
            self._kept[step] = state, outputs
        for layer, output in zip(layers, self._kept[step][1], strict=True):
            layer.output = output
        try:
            yield
        finally:
            for layer in layers:
                layer.output = None


def _state(example: Tensor, tensors: Iterable[Tensor]) -> tuple:
    """Equal as long as the tensors hold the same values and are computed with alike."""
    device = example.device.type
    autocast = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device)
    return example.dtype, autocast, *((t.data_ptr(), _version(t), t.dtype) for t in tensors)


def _version(tensor: Tensor) -> int:
    return -1 if tensor.is_inference() else tensor._version
