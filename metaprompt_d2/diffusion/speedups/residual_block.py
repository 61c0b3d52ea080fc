"""The VAE encoder's residual block with fewer passes over memory."""

from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor
from torch.nn import functional as F

from ..latent_encoder import LatentEncoder


class InPlaceResidualBlock(ResnetBlock2D):
    """diffusers' residual block of a VAE encoder with in-place activations and sum.

    It can't be trained: a backward pass would miss the overwritten values. `LatentEncoder` never
    runs with gradients. docs/performance.md says what the block gains.
    """

    def forward(self, x: Tensor, temb: None = None) -> Tensor:
        """Map x (N, C, H, W), which is not overwritten, to (N, C', H, W); no time embedding."""
        hidden = self.conv1(F.silu(self.norm1(x), inplace=True))
        hidden = self.conv2(F.silu(self.norm2(hidden), inplace=True))
        return hidden.add_(x if self.conv_shortcut is None else self.conv_shortcut(x))


def use_in_place_blocks(encoder: LatentEncoder) -> None:
    """Let an encoder's residual blocks compute in place; parameters and their names stay."""
    for module in encoder.modules():
        if type(module) is ResnetBlock2D:
            module.__class__ = InPlaceResidualBlock
