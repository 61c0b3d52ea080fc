"""Augmentations of a person's crop. They move the view; pixels are read once, at the end."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..codecs import KeypointSchema, points_to_crop
from ..utils.errors import InputError


@dataclass(frozen=True)
class PersonView:
    """The part of an image that a crop shows, and the keypoints in it.

    Attributes:
        keypoints: Keypoints (J, 2) in pixels of the image, or of the mirror image if `mirrored`, x
            then y.
        visible: Mask (J,) of the labeled keypoints.
        box_size: Width and height (2,) of the person's box.
        center, extent: Place of the crop in the image, (2,), x then y, in pixels.
        rotation: Degrees by which the crop's content turns clockwise.
        mirrored: Whether the image is mirrored first.
    """

    keypoints: np.ndarray
    visible: np.ndarray
    box_size: np.ndarray
    center: np.ndarray
    extent: np.ndarray
    rotation: float = 0.0
    mirrored: bool = False


# Function from a view and the image's width in pixels to a view. Random numbers are NumPy's global
# generator's.
ViewAugmentation = Callable[[PersonView, int], PersonView]


class JitterCenter:
    """Sometimes shifts the crop by a uniform share of the box, drawn for every sample.

    The reference draws it once, when the dataset is built.
    """

    def __init__(self, probability: float, amount: float):
        """
        Args:
            probability: Probability of a shift.
            amount: Twice the largest shift, as a share of the box's width and height.

        Raises:
            InputError: The probability isn't in 0..1.
        """
        self.probability = _check_probability("probability", probability)
        self.amount = amount

    def __call__(self, view: PersonView, image_width: int) -> PersonView:
        if np.random.rand() >= self.probability:
            return view
        shift = self.amount * (np.random.rand(2) - 0.5) * view.box_size
        return replace(view, center=view.center + shift)


class MirrorPerson:
    """Mirrors the image half of the time, and swaps left and right keypoints."""

    def __init__(self, schema: KeypointSchema):
        """
        Args:
            schema: Keypoints with their flip pairs.

        Raises:
            InputError: The flip pairs aren't known.
        """
        self.flip_indices = list(schema.flip_indices)

    def __call__(self, view: PersonView, image_width: int) -> PersonView:
        if np.random.rand() > 0.5:
            return view
        swap, mirror, shift = self.flip_indices, (-1, 1), (image_width - 1, 0)
        return replace(
            view,
            keypoints=view.keypoints[swap] * mirror + shift,
            visible=view.visible[swap],
            center=view.center * mirror + shift,
            mirrored=not view.mirrored,
        )


class HalfBody:
    """Sometimes shows the upper or the lower body only, if the keypoints have an upper body."""

    def __init__(
        self,
        schema: KeypointSchema,
        probability: float,
        *,
        min_keypoints: int = 8,
        upper_probability: float = 0.69,
        padding: float = 1.5,
    ):
        """
        Args:
            schema: Keypoints with their upper body.
            probability: Probability of a half body.
            min_keypoints: Number of labeled keypoints that a person must exceed.
            upper_probability: Probability of the upper body where both halves have more than 2
                labeled keypoints. 0.69 is that of the reference, which compares a standard normal
                draw with 0.5.
            padding: Factor on the box around the keypoints.

        Raises:
            InputError: A probability isn't in 0..1.
        """
        self.is_upper = schema.in_upper_body
        self.probability = _check_probability("probability", probability)
        self.upper_probability = _check_probability("upper_probability", upper_probability)
        self.min_keypoints = min_keypoints
        self.padding = padding

    def __call__(self, view: PersonView, image_width: int) -> PersonView:
        if not self.is_upper.any():
            return view
        if view.visible.sum() <= self.min_keypoints or np.random.rand() >= self.probability:
            return view
        points = self._half(view)
        if len(points) < 2 or np.ptp(points, axis=0).max() == 0:
            return view
        aspect = view.extent[0] / view.extent[1]
        center, extent = points_to_crop(points, aspect=aspect, padding=self.padding)
        return replace(view, center=center, extent=extent)

    def _half(self, view: PersonView) -> np.ndarray:
        upper = view.keypoints[view.visible & self.is_upper]
        lower = view.keypoints[view.visible & ~self.is_upper]
        if len(upper) > 2 and np.random.rand() < self.upper_probability:
            return upper
        return lower if len(lower) > 2 else upper


class ScaleAndRotate:
    """Scales the crop's extent and sometimes rotates its content, by normal distributions."""

    def __init__(self, scale: float, rotation: float, rotation_probability: float):
        """
        Args:
            scale: Number s: the factor is 1 + s * N(0, 1), clipped to 1 +- s.
            rotation: Number r: the angle is r * N(0, 1) degrees, clipped to +- 2 r.
            rotation_probability: Probability of a rotation.

        Raises:
            InputError: The crop could vanish, or the probability isn't in 0..1.
        """
        if not 0 <= scale < 1:
            raise InputError(f"scale is {scale}, expected 0 <= scale < 1")
        self.scale = scale
        self.rotation = rotation
        self.rotation_probability = _check_probability("rotation_probability", rotation_probability)

    def __call__(self, view: PersonView, image_width: int) -> PersonView:
        factor = np.clip(1 + self.scale * np.random.randn(), 1 - self.scale, 1 + self.scale)
        rotation = self.rotation * np.clip(np.random.randn(), -2, 2)
        if np.random.rand() >= self.rotation_probability:
            rotation = 0.0
        return replace(view, extent=view.extent * factor, rotation=view.rotation + rotation)


def _check_probability(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise InputError(f"{name} is {value}, expected a probability")
    return value
