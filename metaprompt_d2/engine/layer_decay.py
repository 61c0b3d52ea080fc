"""Learning rates that fall with the depth of the UNet's blocks."""

import re
from collections.abc import Iterable

__all__ = ["unet_layer_scales"]

_BLOCK = re.compile(
    r"\.unet\.(?P<part>conv_in|down_blocks|mid_block|up_blocks|conv_norm_out|conv_out)\."
    r"(?:(?P<level>\d+)\.(?P<kind>\w+)\.(?P<index>\d+))?"
)
_ORDER = ("conv_in", "down_blocks", "mid_block", "up_blocks")


def unet_layer_scales(names: Iterable[str], decay: float) -> dict[str, float]:
    """Learning rate multipliers decay ** (number of blocks between a block and the heads).

    A block is a residual block with its attention (a resampling layer belongs to the one before
    it), the middle, or the first convolution: 1 + 8 + 1 + 12 in Stable Diffusion 1.5. The last
    block before the heads has decay ** 1, as in ViTPose's recipe for its transformer (method
    section 5.2); the UNet's output head has 1.

    Args:
        names: of parameters; those outside a UNet, and its output head, are left out.
        decay: above 0; 1 for none.

    Returns:
        name -> multiplier.

    Raises:
        ValueError: a decay that is not positive.
    """
    if not decay > 0:
        raise ValueError(f"SOLVER.UNET_LAYER_DECAY is {decay}, expected more than 0")
    places = {}
    for name in names:
        match = _BLOCK.search(name)
        if match and match["part"] in _ORDER:
            places[name] = match
    last: dict[tuple, int] = {}
    for match in places.values():
        if match["kind"] in ("resnets", "attentions"):
            key = (match["part"], match["level"])
            last[key] = max(last.get(key, 0), int(match["index"]))

    def place(match: re.Match) -> tuple[int, int, int]:
        number = _ORDER.index(match["part"])
        if match["level"] is None:
            return number, 0, 0
        is_sampler = match["kind"] not in ("resnets", "attentions")
        index = last[match["part"], match["level"]] if is_sampler else int(match["index"])
        return number, int(match["level"]), index

    order = sorted({place(match) for match in places.values()})
    return {
        name: decay ** (len(order) - order.index(place(match))) for name, match in places.items()
    }
