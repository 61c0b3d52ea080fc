"""Building blocks that more than one part of the models needs."""

from collections.abc import Sequence

from torch import nn

from ..utils.errors import InputError

__all__ = ["DeconvStack"]

# kernel size -> (padding, output padding) with which a stride-2 transposed convolution doubles
_DOUBLING_PADDING = {2: (0, 0), 3: (1, 1), 4: (1, 0)}


class DeconvStack(nn.Sequential):
    """Transposed convolutions, each doubling the size, usually followed by one 3x3 convolution.

    ConvTranspose (no bias) - BatchNorm - ReLU for every entry of `hidden_channels`, then
    Conv3x3 - BatchNorm - ReLU unless `out_channels` is None. The `Decoder` of the official depth
    code, in which both the fused re-arrangement and the depth head use it (method section 2.1,
    2.2).
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
            in_channels, out_channels: channels in and out; None for no last convolution.
            hidden_channels: channels after each doubling.
            kernel_size: of the transposed convolutions, one for all or one each: 2, 3 or 4.

        Raises:
            InputError: another kernel size, or another number of them than of doublings.
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
