"""`DeconvStack`: sizes, layers and arithmetic."""

import pytest
import torch
from torch import nn

from metaprompt_d2.layers import DeconvStack


@pytest.mark.parametrize("kernel_size", [2, 3, 4])
@pytest.mark.parametrize("doublings", [0, 1, 3])
def test_every_deconvolution_doubles_the_size(kernel_size: int, doublings: int) -> None:
    stack = DeconvStack(3, [4] * doublings, 5, kernel_size=kernel_size)
    assert stack(torch.randn(2, 3, 5, 7)).shape == (2, 5, 5 * 2**doublings, 7 * 2**doublings)


def test_layers_stand_in_the_official_order() -> None:
    stack = DeconvStack(3, [4, 6], 5, kernel_size=4)
    deconv = [nn.ConvTranspose2d, nn.BatchNorm2d, nn.ReLU]
    assert [type(layer) for layer in stack] == [*deconv, *deconv, nn.Conv2d, *deconv[1:]]
    assert [tuple(stack[index].weight.shape) for index in (0, 3, 6)] == [
        (3, 4, 4, 4),
        (4, 6, 4, 4),
        (5, 6, 3, 3),
    ]
    assert stack[0].bias is None
    assert stack[6].bias is not None


def test_every_deconvolution_has_its_own_kernel() -> None:
    stack = DeconvStack(3, [4, 4, 4], 5, kernel_size=(2, 3, 4))
    assert [stack[index].kernel_size[0] for index in (0, 3, 6)] == [2, 3, 4]
    assert stack(torch.randn(2, 3, 5, 7)).shape == (2, 5, 40, 56)


@pytest.mark.parametrize("kernel_size", [5, (2,), (2, 2, 2), (2, 1)])
def test_kernels_that_cannot_double_are_refused(kernel_size) -> None:
    with pytest.raises(ValueError, match=r"channels, expected as many, each of \[2, 3, 4\]"):
        DeconvStack(3, [4, 4], 5, kernel_size=kernel_size)


def test_a_kernel_of_two_copies_every_pixel_to_its_quarter() -> None:
    # Without overlap, every input pixel times the 2x2 kernel makes its own 2x2 outputs.
    deconv = DeconvStack(1, [1], 1, kernel_size=2)[0]
    with torch.no_grad():
        deconv.weight[:] = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert deconv(torch.tensor([[[[1.0, 10.0]]]])).tolist() == [[[[1, 2, 10, 20], [3, 4, 30, 40]]]]
