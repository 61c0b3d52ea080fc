"""`DeconvStack`: upsampling by transposed convolutions."""

from collections.abc import Sequence

from torch import nn

from ..utils.errors import InputError

# Kernel size -> (padding, output padding) of a stride-2 transposed convolution that doubles.
_DOUBLING_PADDING = {2: (0, 0), 3: (1, 1), 4: (1, 0)}


class DeconvStack(nn.Sequential):
    """Transposed convolutions, each of which doubles the size, and an optional 3x3 convolution.

    ConvTranspose (no bias) - BatchNorm - ReLU for every entry of `hidden_channels`, then
    Conv3x3 - BatchNorm - ReLU unless `out_channels` is None. This is the `Decoder` of the official
    depth code, which uses it in the fused re-arrangement and in the depth head.
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
            in_channels, out_channels: Channels of input and output; without `out_channels` there is
                no last convolution.
            hidden_channels: Channels after each doubling.
            kernel_size: Kernel size of the transposed convolutions, 2, 3 or 4: one for all of them
                or one for each.

        Raises:
            InputError: A kernel size is unknown, or there are not as many as doublings.
        """
        if isinstance(kernel_size, int):
            kernel_size = [kernel_size] * len(hidden_channels)
        known = set(kernel_size) <= _DOUBLING_PADDING.keys()
        if not known or len(kernel_size) != len(hidden_channels):
            raise InputError(
                f"kernel sizes {list(kernel_size)} of transposed convolutions with "
                f"{list(hidden_channels)} channels, expected as many, each of "
                f"{list(_DOUBLING_PADDING)}"
            )
        layers: list[nn.Module] = []
        for channels, extent in zip(hidden_channels, kernel_size, strict=True):
            padding, output_padding = _DOUBLING_PADDING[extent]
            deconv = nn.ConvTranspose2d(
                in_channels,
                channels,
                extent,
                stride=2,
                padding=padding,
                output_padding=output_padding,
                bias=False,
            )
            layers += [deconv, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
            in_channels = channels
        if out_channels is not None:
            layers.append(nn.Conv2d(in_channels, out_channels, 3, padding=1))
            layers += [nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True)]
        super().__init__(*layers)
