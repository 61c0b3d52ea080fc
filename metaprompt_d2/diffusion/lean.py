"""diffusers' blocks with fewer passes over memory in inference; round-off alone changes."""

import torch
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.transformers.transformer_2d import Transformer2DModel
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["make_lean"]


class _LeanResidualBlock(ResnetBlock2D):
    """Activations and sums in place, and no division by 1."""

    def forward(self, input_tensor: Tensor, temb: Tensor | None = None) -> Tensor:
        if torch.is_grad_enabled():
            return super().forward(input_tensor, temb)
        hidden = self.conv1(F.silu(self.norm1(input_tensor), inplace=True))
        if self.time_emb_proj is not None:
            hidden = _added(hidden, self.time_emb_proj(F.silu(temb))[:, :, None, None])
        hidden = self.conv2(self.dropout(F.silu(self.norm2(hidden), inplace=True)))
        shortcut = input_tensor if self.conv_shortcut is None else self.conv_shortcut(input_tensor)
        return _added(hidden, shortcut)


class _LeanTransformer(Transformer2DModel):
    """Tokens become a map with channels innermost, which they are, without copies."""

    def _get_output_for_continuous_inputs(
        self,
        hidden_states: Tensor,
        residual: Tensor,
        batch_size: int,
        height: int,
        width: int,
        inner_dim: int,
    ) -> Tensor:
        channels_last = residual.is_contiguous(memory_format=torch.channels_last)
        if torch.is_grad_enabled() or not channels_last:
            return super()._get_output_for_continuous_inputs(
                hidden_states, residual, batch_size, height, width, inner_dim
            )
        tokens = self.proj_out(hidden_states) if self.use_linear_projection else hidden_states
        output = tokens.view(batch_size, height, width, -1).permute(0, 3, 1, 2)
        return _added(output if self.use_linear_projection else self.proj_out(output), residual)


def make_lean(network: nn.Module) -> None:
    """Let a UNet or VAE of Stable Diffusion compute its blocks this way, in place."""
    for module in network.modules():
        if type(module) is ResnetBlock2D and _is_plain(module):
            module.__class__ = _LeanResidualBlock
        elif type(module) is Transformer2DModel:
            module.__class__ = _LeanTransformer


def _is_plain(block: ResnetBlock2D) -> bool:
    """A block as Stable Diffusion has them, of all that diffusers' class can be."""
    return (
        isinstance(block.nonlinearity, nn.SiLU)
        and block.output_scale_factor == 1
        and block.time_embedding_norm == "default"
        and not (block.up or block.down or block.skip_time_act)
    )


def _added(own: Tensor, other: Tensor) -> Tensor:
    """The sum, in the memory of the first if that doesn't change its type."""
    if own.dtype == torch.promote_types(own.dtype, other.dtype):
        return own.add_(other)
    return own + other
