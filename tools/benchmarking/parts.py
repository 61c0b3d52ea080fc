"""Time of a prediction's parts: VAE encoder, each UNet pass, rearrangement, head, the rest."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from metaprompt_d2.modeling import MetaPromptBackbone

__all__ = ["time_parts"]


class _Stopwatch:
    """Sums the time from the start of a part's first module to the end of its last one."""

    def __init__(self, device: torch.device):
        self.device = device
        self.seconds: dict[str, float] = {}
        self._spans: dict[str, tuple[float, float]] = {}

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def start(self, name: str) -> None:
        self._spans.setdefault(name, (self.now(), 0.0))

    def stop(self, name: str) -> None:
        self._spans[name] = (self._spans[name][0], self.now())

    def close(self, name: str) -> None:
        """Add the span of a part that has ended, if it has run."""
        if name in self._spans:
            first, last = self._spans.pop(name)
            self.seconds[name] = self.seconds.get(name, 0.0) + last - first


def time_parts(model: nn.Module, call: Callable[[], object]) -> dict[str, float]:
    """Measure the seconds per part of one call. "the rest" is normalization, resizing, averaging.

    Args:
        model: A model with a `MetaPromptBackbone`, not compiled.
        call: A function that runs the model.
    """
    device = next(model.parameters()).device
    call()  # loads kernels, fills the allocator, packs
    watch = _Stopwatch(device)
    with _watched(model, watch):
        start = watch.now()
        call()
        total = watch.now() - start
    return watch.seconds | {"the rest": total - sum(watch.seconds.values())}


@contextmanager
def _watched(model: nn.Module, watch: _Stopwatch) -> Iterator[None]:
    backbone = next(m for m in model.modules() if isinstance(m, MetaPromptBackbone))
    steps = len(backbone.refinement.step_embeddings)
    passes = [0]
    handles = []

    def watch_module(name: Callable[[], str], module: nn.Module, ends: bool) -> None:
        handles.append(module.register_forward_pre_hook(lambda *_: watch.start(name())))

        def stop(*_: object) -> None:
            watch.stop(name())
            if ends:
                watch.close(name())

        handles.append(module.register_forward_hook(stop))

    def unet_pass() -> str:
        return f"UNet pass {passes[0] % steps + 1}"

    watch_module(lambda: "VAE encoder", backbone.latent_encoder, True)
    watch_module(unet_pass, backbone.refinement.unet, True)
    handles.append(
        backbone.refinement.unet.register_forward_hook(
            lambda *_: passes.__setitem__(0, passes[0] + 1)
        )
    )
    if backbone.rearrangement is not None:
        watch_module(lambda: "rearrangement", backbone.rearrangement, True)
    for child in model.children():
        if child is not backbone:
            # Heads may be called by other methods than `forward`.
            for module in child.modules():
                watch_module(lambda: "head", module, False)
    # The next batch of windows, or the end of the call, ends the head's span.
    handles.append(backbone.register_forward_pre_hook(lambda *_: watch.close("head")))
    try:
        yield
    finally:
        watch.close("head")
        for handle in handles:
            handle.remove()
