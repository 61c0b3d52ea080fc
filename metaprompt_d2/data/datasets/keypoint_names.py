"""What names of keypoints say: pairs of the left and the right side, and colors of connections."""

from collections.abc import Iterable
from itertools import pairwise

from ...codecs import Connection

_COLORS = {"left": (0, 255, 0), "right": (255, 128, 0)}
_MIDDLE = (51, 153, 255)


def pair_sides(names: Iterable[str]) -> list[tuple[str, str]]:
    """Pair each `left_*` of the names with its `right_*`."""
    return [(name, f"right{name[4:]}") for name in names if name.startswith("left_")]


def connect(*chains: Iterable[str]) -> list[Connection]:
    """Connect the neighbors in each chain of names, in the color of the second one's side."""
    return [
        (start, end, _COLORS.get(end.partition("_")[0], _MIDDLE))
        for chain in chains
        for start, end in pairwise(chain)
    ]
