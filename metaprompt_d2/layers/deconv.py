"""`DeconvStack`: upsampling by transposed convolutions. `init_normal`: their first weights."""

from collections.abc import Sequence

from torch import nn

from ..utils.errors import InputError

# Kernel size -> (padding, output padding) of a stride-2 transposed convolution that doubles.
_DOUBLING_PADDING = {2: (0, 0), 3: (1, 1), 4: (1, 0)}


class DeconvStack(nn.Sequential):
    """Transposed convolutions, each of which doubles the size, and an optional 3x3 convolution.

    ConvTranspose (no bias) - BatchNorm - ReLU for every entry of `hidden_channels`, then
    Conv3x3 - BatchNorm - ReLU unless `out_channels` is None. This is the `Decoder` of the official
    depth code, which uses it in the fused rearrangement and in the depth head.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: Sequence[int],
        out_channels: int | None,
        *,
        kernel_size: int | Sequence[int] = 2,
    ):
        """
        Args:
            in_channels, hidden_channels: Channels of the input and after each doubling.
            out_channels: Channels of the last convolution; None for no such convolution.
            kernel_size: Kernel size 2, 3 or 4, one for all doublings or one for each.

        Raises:
            InputError: A kernel size is unknown, or there are not as many as doublings.
        """
        sizes = (
            [kernel_size] * len(hidden_channels) if isinstance(kernel_size, int) else kernel_size
        )
        if len(sizes) != len(hidden_channels) or not set(sizes) <= _DOUBLING_PADDING.keys():
            raise InputError(
                f"kernel sizes {list(sizes)} of transposed convolutions with "
                f"{list(hidden_channels)} channels, expected as many, each of "
                f"{list(_DOUBLING_PADDING)}"
            )
        layers: list[nn.Module] = []
        for channels, size in zip(hidden_channels, sizes, strict=True):
            deconv = nn.ConvTranspose2d(
                in_channels, channels, size, 2, *_DOUBLING_PADDING[size], bias=False
            )
            layers += [deconv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
            in_channels = channels
        if out_channels is not None:
            layers.append(nn.Conv2d(in_channels, out_channels, 3, padding=1))
            layers += [nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]
        super().__init__(*layers)


def init_normal(module: nn.Module, std: float) -> None:
    """Draw the weights of all convolutions in a module from N(0, std^2), and set biases to 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.normal_(layer.weight, std=std)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
