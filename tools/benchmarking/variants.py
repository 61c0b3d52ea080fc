"""Ways to run a model: like the official code, with one improvement, or with all of them."""

import copy
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from metaprompt_d2.diffusion import FeatureUNet, LatentEncoder
from metaprompt_d2.diffusion.speedups import (
    compile_networks,
    convert_weights,
    pack_convolutions,
    use_channels_last,
    use_in_place_blocks,
)
from metaprompt_d2.engine import convert_frozen_weights

__all__ = ["EXACT", "Variant", "inference_variants", "training_variants"]


@dataclass(frozen=True)
class Variant:
    """A way to run a model. The defaults are `plain`: the official code's arithmetic.

    Attributes:
        name: Name in tables.
        attention: "explicit" materializes the N x N matrix, "sdpa" is torch's fused attention,
            "efficient" its memory-efficient kernel, which the official code gets from xformers.
        channels_last: Whether kernels and maps have their channels innermost.
        packed: Whether kernels are stored in oneDNN's order (inference on a CPU).
        in_place: Whether the VAE's activations and sums overwrite their operands.
        batched: Whether windows and mirror images run in batches (inference).
        share_encoder: Whether overlapping windows are cut from one latent (models with windows).
        dtype: Autocast's type, or None for float32.
        convert: Whether the weights of VAE and UNet have `dtype`, too (in training: frozen ones).
        compile_mode: Mode of `torch.compile`; "" to run eagerly.
        fused_optimizer: Whether one kernel updates all parameters (training).
        exact: Whether everything is computed in float64.
    """

    name: str
    attention: str = "explicit"
    channels_last: bool = False
    packed: bool = False
    in_place: bool = False
    batched: bool = False
    share_encoder: bool = False
    dtype: torch.dtype | None = None
    convert: bool = False
    compile_mode: str = ""
    fused_optimizer: bool = False
    exact: bool = False

    @property
    def computes_in(self) -> torch.dtype:
        """Type of the matrix products."""
        return torch.float64 if self.exact else self.dtype or torch.float32

    def applied_to(self, model: nn.Module, *, train: bool = False) -> nn.Module:
        """Copy a model and let the copy run this way.

        Args:
            model: A model without any speed-ups. In inference, the copy shares the parameters that
                the variant doesn't change.
            train: Whether the copy is trained.
        """
        shares = not (train or self.packed)
        clone = copy.deepcopy(model, _same_values(model) if shares else {}).train(train)
        if not train:
            clone.requires_grad_(False)
        clone.inference_dtype = self.dtype
        if not self.batched:
            for name in ("window_batch_size", "batch_size"):
                if hasattr(clone, name):
                    setattr(clone, name, 1)
        if hasattr(clone, "share_encoder"):
            clone.share_encoder = self.share_encoder and clone.window_size is not None
        explicit = self.attention == "explicit"
        for module in clone.modules():
            if isinstance(module, Attention):
                module.set_processor(AttnProcessor() if explicit else AttnProcessor2_0())
            if isinstance(module, LatentEncoder) and self.in_place:
                use_in_place_blocks(module)
        if self.channels_last:
            use_channels_last(clone)
        if self.compile_mode:
            compile_networks(clone, self.compile_mode)
        if self.convert and train:
            convert_frozen_weights(clone, self.dtype)
        if self.convert and not train:
            convert_weights(clone, self.dtype)
        for network in clone.modules() if self.packed else ():
            if isinstance(network, FeatureUNet | LatentEncoder):
                pack_convolutions(network)
        return clone.double() if self.exact else clone

    def running(self) -> AbstractContextManager:
        """Give the context to call the model in."""
        if self.attention == "efficient":
            return sdpa_kernel([SDPBackend.EFFICIENT_ATTENTION])
        return nullcontext()


EXACT = Variant("float64", attention="sdpa", exact=True)


def _same_values(model: nn.Module) -> dict[int, Tensor]:
    """Make `copy.deepcopy` create new parameters on the same memory."""
    parameters = {id(p): nn.Parameter(p.detach()) for p in model.parameters()}
    return parameters | {id(buffer): buffer.detach() for buffer in model.buffers()}


def inference_variants(device: torch.device, *, compiled: bool) -> list[Variant]:
    """List the variants for inference, `plain` first.

    Args:
        device: Device of the model.
        compiled: Whether to include `torch.compile`.
    """
    half, on_gpu = torch.bfloat16, device.type == "cuda"
    improvements = {
        "attention": "sdpa",
        "channels_last": on_gpu,
        "in_place": True,
        "batched": True,
    }
    variants = [
        Variant("plain"),
        Variant("sdpa", attention="sdpa"),
        Variant("channels-last", channels_last=True),
        Variant("in-place VAE", in_place=True),
        Variant("batched windows", batched=True),
        Variant("shared encoder", share_encoder=True),
        Variant("bf16 autocast", dtype=half),
        Variant("bf16 weights", dtype=half, convert=True),
        Variant("all, float32", **improvements),
        Variant("all, bf16", **improvements, packed=not on_gpu, dtype=half, convert=True),
    ]
    if not on_gpu:
        variants.insert(3, Variant("packed kernels", packed=True))
        variants.append(Variant("all, float32, packed", **improvements, packed=True))
        variants.append(Variant("all, bf16, not packed", **improvements, dtype=half, convert=True))
    if on_gpu:
        variants.insert(1, Variant("official-gpu", attention="efficient"))
        fp16 = Variant("all, fp16", **improvements, dtype=torch.float16, convert=True)
        variants.append(fp16)
    if compiled:
        modes = ["default", "reduce-overhead"] if on_gpu else ["default"]
        for mode in modes:
            variants.append(Variant(f"compiled ({mode})", attention="sdpa", compile_mode=mode))
            name = f"all, bf16, compiled ({mode})"
            all_of_it = {"dtype": half, "convert": True, "compile_mode": mode}
            variants.append(Variant(name, **improvements, **all_of_it))
    return variants


def training_variants(device: torch.device, *, compiled: bool) -> list[Variant]:
    """List the variants for training, `plain` first; arguments as in `inference_variants`."""
    half = torch.bfloat16
    improvements = {
        "attention": "sdpa",
        "channels_last": device.type == "cuda",
        "in_place": True,
        "fused_optimizer": True,
    }
    variants = [
        Variant("plain"),
        Variant("sdpa", attention="sdpa"),
        Variant("channels-last", channels_last=True),
        Variant("in-place VAE", in_place=True),
        Variant("fused AdamW", fused_optimizer=True),
        Variant("bf16 autocast", dtype=half),
        Variant("all, float32", **improvements),
        Variant("all, bf16", **improvements, dtype=half, convert=True),
    ]
    if device.type == "cuda":
        variants.insert(1, Variant("official-gpu", attention="efficient"))
    if compiled:
        half_and_compiled = {"dtype": half, "convert": True, "compile_mode": "default"}
        variants.append(Variant("all, bf16, compiled", **improvements, **half_and_compiled))
    return variants
