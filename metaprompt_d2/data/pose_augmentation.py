"""Augmentations of a person's crop (method section 5.2): they move the view, pixels come last."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..codecs import FLIP_INDICES, UPPER_BODY, points_to_crop
from ..utils.errors import InputError

__all__ = [
    "HalfBody",
    "JitterCenter",
    "MirrorPerson",
    "PersonView",
    "ScaleAndRotate",
    "ViewAugmentation",
]


@dataclass(frozen=True)
class PersonView:
    """What a crop shows of an image, and the keypoints in it.

    Attributes:
        keypoints: (J, 2) in the image's pixels, x then y; of the mirror image where `mirrored`.
        visible: (J,) bool; keypoints that are labelled.
        box_size: (2,) width and height of the person's box.
        center, extent: (2,) of the crop in the image, x then y, in pixels.
        rotation: of the crop's content, in degrees, clockwise.
        mirrored: the image is to be mirrored first.
    """

    keypoints: np.ndarray
    visible: np.ndarray
    box_size: np.ndarray
    center: np.ndarray
    extent: np.ndarray
    rotation: float = 0.0
    mirrored: bool = False


# View and width of the image in pixels -> view; drawn from NumPy's global generator.
ViewAugmentation = Callable[[PersonView, int], PersonView]


class JitterCenter:
    """Sometimes shift the crop by a share of the box, uniform, drawn anew for every sample.

    (The reference draws it once, when the data set is built.)
    """

    def __init__(self, probability: float, amount: float):
        """
        Args:
            probability: of a shift.
            amount: the shift is within half of this times the box's width and height.
        """
        self.probability = _probability(probability, "CENTER_JITTER_PROB")
        self.amount = amount

    def __call__(self, view: PersonView, image_width: int) -> PersonView:
        if np.random.rand() >= self.probability:
            return view
        shift = self.amount * (np.random.rand(2) - 0.5) * view.box_size
        return replace(view, center=view.center + shift)


class MirrorPerson:
    """Half of the time mirror the image; left keypoints become right ones."""

    def __call__(self, view: PersonView, image_width: int) -> PersonView:
        if np.random.rand() > 0.5:
            return view

        def mirror(points: np.ndarray) -> np.ndarray:
            return np.stack([image_width - 1 - points[..., 0], points[..., 1]], axis=-1)

        swap = list(FLIP_INDICES)
        return replace(
            view,
            keypoints=mirror(view.keypoints)[swap],
            visible=view.visible[swap],
            center=mirror(view.center),
            mirrored=not view.mirrored,
        )


class HalfBody:
    """Sometimes show the upper or the lower body alone."""

    def __init__(
        self,
        probability: float,
        *,
        min_keypoints: int = 8,
        upper_probability: float = 0.69,
        padding: float = 1.5,
    ):
        """
        Args:
            probability: of showing half a body.
            min_keypoints: only where more keypoints are labelled.
            upper_probability: of the upper body, where both have more than 2 labelled keypoints; 0.69
                is that of a standard normal draw below 0.5, with which the reference decides.
            padding: factor on the box around the keypoints.
        """
        self.probability = _probability(probability, "HALF_BODY_PROB")
        self.upper_probability = _probability(upper_probability, "HALF_BODY_UPPER_PROB")
        self.min_keypoints = min_keypoints
        self.padding = padding

    def __call__(self, view: PersonView, image_width: int) -> PersonView:
        if view.visible.sum() <= self.min_keypoints or np.random.rand() >= self.probability:
            return view
        points = self._half(view)
        if len(points) < 2 or np.ptp(points, axis=0).max() == 0:
            return view
        aspect = view.extent[0] / view.extent[1]
        center, extent = points_to_crop(points, aspect=aspect, padding=self.padding)
        return replace(view, center=center, extent=extent)

    def _half(self, view: PersonView) -> np.ndarray:
        is_upper = np.isin(np.arange(len(view.keypoints)), UPPER_BODY)
        upper = view.keypoints[view.visible & is_upper]
        lower = view.keypoints[view.visible & ~is_upper]
        if len(upper) > 2 and np.random.rand() < self.upper_probability:
            return upper
        return lower if len(lower) > 2 else upper


class ScaleAndRotate:
    """Scale the crop's extent and sometimes rotate its content, normally distributed."""

    def __init__(self, scale: float, rotation: float, rotation_probability: float):
        """
        Args:
            scale: the factor is 1 + scale * N(0, 1), within 1 +- scale.
            rotation: the angle is rotation * N(0, 1) degrees, within +- 2 rotation.
            rotation_probability: of a rotation.

        Raises:
            InputError: a scale that lets the crop vanish, or no probability.
        """
        if not 0 <= scale < 1:
            raise InputError(f"INPUT.POSE_AUG.SCALE is {scale}, expected 0 <= SCALE < 1")
        self.scale = scale
        self.rotation = rotation
        self.rotation_probability = _probability(rotation_probability, "ROTATION_PROB")

    def __call__(self, view: PersonView, image_width: int) -> PersonView:
        factor = np.clip(1 + self.scale * np.random.randn(), 1 - self.scale, 1 + self.scale)
        rotation = self.rotation * np.clip(np.random.randn(), -2, 2)
        if np.random.rand() >= self.rotation_probability:
            rotation = 0.0
        return replace(view, extent=view.extent * factor, rotation=view.rotation + rotation)


def _probability(value: float, key: str) -> float:
    if not 0 <= value <= 1:
        raise InputError(f"INPUT.POSE_AUG.{key} is {value}, expected a probability")
    return value
