"""Ways to run one model: the official code's arithmetic, each improvement alone, all together."""

import copy
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from diffusers.models.attention_processor import Attention, AttnProcessor, AttnProcessor2_0
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from metaprompt_d2.diffusion import FeatureUNet, LatentEncoder
from metaprompt_d2.diffusion.speedups import InPlaceResidualBlock, pack_convolutions
from metaprompt_d2.engine import convert_frozen_weights
from metaprompt_d2.modeling import MetaPromptBackbone
from metaprompt_d2.utils.precision import convert_weights

__all__ = ["Variant", "inference_variants", "training_variants"]


@dataclass(frozen=True)
class Variant:
    """One way to run a model. The defaults are `plain`: the official code's arithmetic.

    Attributes:
        name: in tables.
        attention: "explicit" materialises the N x N matrix; "sdpa" is torch's fused attention;
            "efficient" its memory-efficient kernel, what xformers gives the official code.
        channels_last: channels innermost.
        packed: kernels lie in oneDNN's order; in inference on a CPU.
        in_place: activations and sums of the VAE overwrite their operand.
        keep_projections: projections of prompts and step embeddings are made once; in inference.
        batched: windows and mirror images in batches instead of one at a time; in inference.
        share_encoder: overlapping windows are cut from one latent; where the model has windows.
        dtype: None for float32; otherwise autocast.
        convert: weights of VAE and UNet are of `dtype` themselves; in training, frozen ones.
        compile_mode: of `torch.compile`; "" = eager.
        fused_optimizer: one kernel for all parameters; in training.
    """

    name: str
    attention: str = "explicit"
    channels_last: bool = False
    packed: bool = False
    in_place: bool = False
    keep_projections: bool = False
    batched: bool = False
    share_encoder: bool = False
    dtype: torch.dtype | None = None
    convert: bool = False
    compile_mode: str = ""
    fused_optimizer: bool = False

    @property
    def computes_in(self) -> torch.dtype:
        """The type of the matrix products."""
        return self.dtype or torch.float32

    def applied_to(self, model: nn.Module, *, train: bool = False) -> nn.Module:
        """A model that runs this way.

        In inference it shares all parameters with the given one that the variant doesn't change.
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
            if isinstance(module, FeatureUNet) and not self.keep_projections:
                module.kept_projections = _NothingKept()
            if isinstance(module, InPlaceResidualBlock):
                module.in_place = self.in_place
            if isinstance(module, MetaPromptBackbone):
                module.set_layout(channels_last=self.channels_last)
                if self.compile_mode:
                    module.compile_parts(self.compile_mode)
        if self.convert and train:
            convert_frozen_weights(clone, self.dtype)
        for network in [m for m in clone.modules() if isinstance(m, FeatureUNet | LatentEncoder)]:
            if self.convert and not train:
                convert_weights(network, self.dtype)
            if self.packed:
                pack_convolutions(network)
        return clone

    def running(self) -> AbstractContextManager:
        """To be entered around calls of the model."""
        if self.attention == "efficient":
            return sdpa_kernel([SDPBackend.EFFICIENT_ATTENTION])
        return nullcontext()


def _same_values(model: nn.Module) -> dict[int, Tensor]:
    """For `copy.deepcopy`: other parameter objects, on the same memory."""
    parameters = {id(p): nn.Parameter(p.detach()) for p in model.parameters()}
    return parameters | {id(buffer): buffer.detach() for buffer in model.buffers()}


class _NothingKept:
    """In place of `KeptProjections`: every call projects anew."""

    def forget(self) -> None:
        pass

    def used(self, *_: object) -> AbstractContextManager:
        return nullcontext()


def inference_variants(device: torch.device, *, compiled: bool) -> list[Variant]:
    """What is measured in inference, `plain` first.

    Args:
        device: of the model.
        compiled: include what `torch.compile` makes.
    """
    half, on_gpu = torch.bfloat16, device.type == "cuda"
    exact = {
        "attention": "sdpa",
        "channels_last": on_gpu,
        "packed": not on_gpu,
        "in_place": True,
        "keep_projections": True,
        "batched": True,
    }
    variants = [
        Variant("plain"),
        Variant("sdpa", attention="sdpa"),
        Variant("channels-last", channels_last=True),
        Variant("in-place VAE", in_place=True),
        Variant("kept projections", keep_projections=True),
        Variant("batched windows", batched=True),
        Variant("shared encoder", share_encoder=True),
        Variant("bf16 autocast", dtype=half),
        Variant("bf16 weights", dtype=half, convert=True),
        Variant("all, float32", **exact),
        Variant("all, bf16", **exact, dtype=half, convert=True),
    ]
    if not on_gpu:
        variants.insert(3, Variant("packed kernels", packed=True))
    if on_gpu:
        variants.insert(1, Variant("official-gpu", attention="efficient"))
        fp16 = Variant("all, fp16", **exact, dtype=torch.float16, convert=True)
        variants.append(fp16)
    if compiled:
        modes = ["default", "reduce-overhead"] if on_gpu else ["default"]
        for mode in modes:
            variants.append(Variant(f"compiled ({mode})", attention="sdpa", compile_mode=mode))
            name = f"all, bf16, compiled ({mode})"
            all_of_it = {"dtype": half, "convert": True, "compile_mode": mode}
            variants.append(Variant(name, **exact, **all_of_it))
    return variants


def training_variants(device: torch.device, *, compiled: bool) -> list[Variant]:
    """What is measured in training, `plain` first; arguments as above."""
    half = torch.bfloat16
    exact = {
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
        Variant("all, float32", **exact),
        Variant("all, bf16", **exact, dtype=half, convert=True),
    ]
    if device.type == "cuda":
        variants.insert(1, Variant("official-gpu", attention="efficient"))
    if compiled:
        half_and_compiled = {"dtype": half, "convert": True, "compile_mode": "default"}
        variants.append(Variant("all, bf16, compiled", **exact, **half_and_compiled))
    return variants
