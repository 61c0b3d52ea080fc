"""Random weights: a warning where they run, and no draw where a file replaces them."""

import logging
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

logger = logging.getLogger(__name__)

# A small parameter of each part, random when it is built, that no speed-up or adapter replaces.
_PARAMETERS = {
    "VAE": "latent_encoder.encoder.conv_in.bias",
    "UNet": "refinement.unet.conv_in.bias",
}


def warn_if_random(backbone: nn.Module, source: str) -> None:
    """Warn at the first pass of a `MetaPromptBackbone` whose VAE or UNet still has its weights.

    Values are compared, so any way to load weights counts. It isn't an error, because random
    weights can be wanted, for instance to measure the speed. Compiled and exported programs don't
    contain the check.

    Args:
        backbone: The backbone, as it was built.
        source: Diffusion weights that somebody should load.
    """
    backbone.register_forward_pre_hook(_FirstPass(backbone, source))


class _FirstPass:
    """A hook before the forward pass, as a class because a model can then be pickled."""

    def __init__(self, backbone: nn.Module, source: str):
        self._source = source
        self._initial: dict[str, Tensor] = {
            part: backbone.get_parameter(name).detach().clone()
            for part, name in _PARAMETERS.items()
        }

    def __call__(self, backbone: nn.Module, inputs: tuple) -> None:
        if torch.compiler.is_compiling() or torch.jit.is_tracing():
            return
        unchanged = [
            part
            for part, value in self._initial.items()
            if _is_same(backbone.get_parameter(_PARAMETERS[part]), value)
        ]
        self._initial = {}
        if unchanged:
            logger.warning(
                "The diffusion weights %s have not been loaded: the %s of this model run with "
                "RANDOM weights. This package's trainers and tools load them. Other projects load "
                "the file that tools/convert_checkpoint.py --to detectron2 writes, by "
                "MODEL.WEIGHTS or train.init_checkpoint (docs/compose.md)",
                self._source,
                " and ".join(unchanged),
            )


def _is_same(parameter: Tensor, initial: Tensor) -> bool:
    """Compare values; without values, on the device "meta" or in a fake tensor, nothing is."""
    if type(parameter) is not nn.Parameter or parameter.is_meta or initial.is_meta:
        return False
    return torch.equal(parameter, initial.to(parameter))


_DRAWS = {
    nn.init.kaiming_normal_,
    nn.init.kaiming_uniform_,
    nn.init.normal_,
    nn.init.uniform_,
    Tensor.normal_,
    Tensor.uniform_,
}


class WithoutRandomWeights(TorchFunctionMode):
    """Context in which parameters of new models get no values, because a file will set them all.

    Drawing the weights of Stable Diffusion takes longer than reading them.
    """

    def __torch_function__(
        self,
        function: Any,
        types: Iterable[type],
        args: tuple = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        if function in _DRAWS:
            values = args[0] if args else named["tensor"]
            if isinstance(values, nn.Parameter):
                return values
        return function(*args, **named)
