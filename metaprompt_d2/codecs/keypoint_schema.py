"""`KeypointSchema`: what the keypoints of a dataset are called and how they belong together."""

import colorsys
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np

from ..utils.errors import InputError

# The median of COCO's standard deviations, for datasets that were not annotated repeatedly.
DEFAULT_SIGMA = 0.072

_METADATA_KEYS = {
    "names": "keypoint_names",
    "flip_pairs": "keypoint_flip_map",
    "sigmas": "keypoint_oks_sigmas",
    "connections": "keypoint_connection_rules",
    "upper_body": "keypoint_upper_body",
    "parts": "keypoint_parts",
}
Connection = tuple[str, str, tuple[int, int, int]]


@dataclass(frozen=True)
class KeypointSchema:
    """The keypoints of a dataset.

    Attributes:
        names: Names of the J keypoints.
        flip_pairs: Pairs of names that the mirror image swaps; () if all keypoints stay what they
            are, None if it isn't known.
        sigmas: Standard deviation of the annotators for each keypoint, as a share of the square
            root of the object's area, for OKS; None if they aren't known.
        connections: Pairs of names between which pictures have a line, with its color (red, green,
            blue), 0..255.
        upper_body: Names of the keypoints of the upper body, for `HalfBody`; () if there is none.
        parts: Names of the groups of consecutive keypoints that are annotated and evaluated one by
            one, with the number of keypoints in each; () if there is one group.

    Raises:
        InputError: An argument doesn't fit the names; the message names the argument.
    """

    names: tuple[str, ...]
    flip_pairs: tuple[tuple[str, str], ...] | None = None
    sigmas: tuple[float, ...] | None = None
    connections: tuple[Connection, ...] = ()
    upper_body: tuple[str, ...] = ()
    parts: tuple[tuple[str, int], ...] = ()

    def __post_init__(self) -> None:
        if not self.names:
            raise InputError("names are empty, expected at least one keypoint")
        if any(len(pair) != 2 for pair in self.flip_pairs or ()):
            raise InputError(f"flip_pairs are {self.flip_pairs}, expected pairs of names")
        self._check_names("names", self.names)
        self._check_names("flip_pairs", [name for pair in self.flip_pairs or () for name in pair])
        self._check_names("upper_body", self.upper_body)
        for start, end, color in self.connections:
            self._check_names("connections", (start, end))
            if len(color) != 3 or not all(0 <= part <= 255 for part in color):
                raise InputError(f"connections: {color} isn't a color of 3 numbers 0..255")
        if self.sigmas is not None and len(self.sigmas) != len(self):
            raise InputError(f"sigmas are {len(self.sigmas)} numbers, expected {len(self)}")
        if not all(0 < sigma < math.inf for sigma in self.sigmas or ()):
            raise InputError(f"sigmas are {self.sigmas}, expected finite numbers above 0")
        if self.parts and sum(count for _, count in self.parts) != len(self):
            raise InputError(f"parts are {self.parts}, expected {len(self)} keypoints together")

    def _check_names(self, argument: str, names: Sequence[str]) -> None:
        for name in names:
            if name not in self.names:
                raise InputError(f"{argument}: {name!r} isn't a keypoint of {list(self.names)}")
            if names.count(name) > 1:
                raise InputError(f"{argument}: {name!r} is there {names.count(name)} times")

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> "KeypointSchema":
        """Make the schema of a dataset's metadata.

        Args:
            metadata: Detectron2's "keypoint_names" and, if known, "keypoint_flip_map" and
                "keypoint_connection_rules", and also "keypoint_oks_sigmas", "keypoint_upper_body"
                and "keypoint_parts".
        """
        found = {argument: metadata.get(key) for argument, key in _METADATA_KEYS.items()}
        return cls(**{key: _as_tuples(value) for key, value in found.items() if value is not None})

    @classmethod
    def from_category(cls, category: Mapping[str, Any]) -> "KeypointSchema":
        """Make the schema of a category of a COCO JSON, which says neither flip pairs nor sigmas.

        Args:
            category: "keypoints", a list of names, and perhaps "skeleton", pairs of numbers of
                keypoints from 1. The connections get colors of all hues.
        """
        names, pairs = tuple(category["keypoints"]), category.get("skeleton") or ()
        for pair in pairs:
            known = isinstance(pair, list | tuple) and {*pair} <= {*range(1, len(names) + 1)}
            if not known or len(pair) != 2:
                raise InputError(f"skeleton: {pair}, expected 2 numbers from 1 to {len(names)}")
        return cls(
            names,
            connections=tuple(
                (names[start - 1], names[end - 1], _color(index / len(pairs)))
                for index, (start, end) in enumerate(pairs)
            ),
        )

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def flip_indices(self) -> tuple[int, ...]:
        """Index in the image of each keypoint of the mirror image.

        Raises:
            InputError: The flip pairs aren't known.
        """
        if self.flip_pairs is None:
            raise InputError("flip_pairs are None: a mirror image needs them")
        partners = {name: other for a, b in self.flip_pairs for name, other in ((a, b), (b, a))}
        return tuple(self.names.index(partners.get(name, name)) for name in self.names)

    @cached_property
    def oks_sigmas(self) -> np.ndarray:
        """Standard deviations (J,) for OKS; `DEFAULT_SIGMA` if they aren't known."""
        return np.array([DEFAULT_SIGMA] * len(self) if self.sigmas is None else self.sigmas)

    @cached_property
    def part_slices(self) -> dict[str, slice]:
        """Place of each part among the keypoints."""
        ends = accumulate(count for _, count in self.parts)
        return {
            name: slice(end - count, end)
            for (name, count), end in zip(self.parts, ends, strict=True)
        }

    @cached_property
    def in_upper_body(self) -> np.ndarray:
        """Mask (J,) of the keypoints of the upper body."""
        return np.isin(self.names, self.upper_body)


def _as_tuples(values: Any) -> Any:
    return tuple(map(_as_tuples, values)) if isinstance(values, list | tuple) else values


def _color(hue: float) -> tuple[int, int, int]:
    red, green, blue = (round(255 * part) for part in colorsys.hsv_to_rgb(hue, 0.8, 1))
    return red, green, blue
