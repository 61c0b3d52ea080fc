"""Pictures of predictions beside the ground truth."""

from collections.abc import Callable, Sequence

import cv2
import numpy as np
from detectron2.data import Metadata
from detectron2.structures import Boxes, Instances
from detectron2.utils.visualizer import Visualizer

__all__ = [
    "compare_depth",
    "compare_people",
    "compare_sem_seg",
    "draw_ground_truth",
    "stack_rows",
]

_FONT = cv2.FONT_HERSHEY_SIMPLEX
_GAP = 4  # pixels between pictures
_WHITE = 255
_NO_VALUE = 128  # grey, which no colour map below has
_DEPTH_COLORS = cv2.COLORMAP_VIRIDIS  # reversed: near is bright
_ERROR_COLORS = cv2.COLORMAP_MAGMA
_PEOPLE_WIDTH = 512  # pixels to which smaller images are enlarged before skeletons are drawn
_LARGE_ERROR = 0.2  # share of the depth's scale at which the error's ends


def compare_sem_seg(
    image: np.ndarray, prediction: np.ndarray, truth: np.ndarray | None, metadata: Metadata
) -> np.ndarray:
    """Image, ground truth and prediction side by side, classes in the data set's colours.

    Args:
        image: (H, W, 3) uint8 RGB.
        prediction: (H, W) class ids.
        truth: (H, W) class ids or `metadata.ignore_label` (drawn black), or None.
        metadata: with "stuff_classes", "stuff_colors" (else a fixed palette), "ignore_label".

    Returns:
        (H', W', 3) uint8 RGB with a title over each picture.
    """
    pictures = [("image", image)]
    if truth is not None:
        pictures.append(("ground truth", _colorize(image, truth, metadata)))
    pictures.append(("prediction", _colorize(image, prediction, metadata)))
    return _side_by_side([_with_title(picture, title) for title, picture in pictures])


def compare_depth(
    image: np.ndarray, prediction: np.ndarray, truth: np.ndarray | None, *, max_depth: float
) -> np.ndarray:
    """Image, ground truth, prediction and absolute error, each map over its scale in metres.

    Ground truth and prediction share one scale, from 0 to the farthest ground truth; the error's
    ends at a fifth of it. What lies beyond has the scale's last colour, what has no value is grey.
    Sparse ground truth, as a laser's, is drawn with larger points.

    Args:
        image: (H, W, 3) uint8 RGB.
        prediction: (H, W) metres; NaN and infinity have no value.
        truth: (H, W) metres, 0 = no value, or None: then only image and prediction are drawn.
        max_depth: metres at which the scale ends at the latest.

    Returns:
        (H', W', 3) uint8 RGB with a title over each picture.
    """
    farthest = max_depth
    if truth is not None and truth.any():
        farthest = min(max_depth, float(truth.max()))
    height = _title_height(image)
    blank = np.full((2 * height, image.shape[1], 3), _WHITE, np.uint8)
    columns = [np.vstack([_with_title(image, "image"), blank])]

    def add(title: str, values: np.ndarray, end: float, color_map: int, reverse: bool) -> None:
        bar = _scale_bar(image.shape[1], height, end, color_map, reverse)
        picture = _color_mapped(values, end, color_map, reverse)
        columns.append(np.vstack([_with_title(picture, title), bar]))

    prediction = np.where(np.isfinite(prediction), prediction, np.nan)
    if truth is not None:
        truth = np.where(truth > 0, truth, np.nan)
        # The nearest of the points that meet in a pixel lies in front.
        add("ground truth", _thickened(truth, np.fmin), farthest, _DEPTH_COLORS, True)
    add("prediction", prediction, farthest, _DEPTH_COLORS, True)
    if truth is not None:
        error = _thickened(np.abs(prediction - truth), np.fmax)
        add("absolute error", error, _LARGE_ERROR * farthest, _ERROR_COLORS, False)
    return _side_by_side(columns)


def draw_ground_truth(
    image: np.ndarray,
    metadata: Metadata,
    *,
    sem_seg: np.ndarray | None = None,
    depth: np.ndarray | None = None,
) -> np.ndarray:
    """An image beside what is known of it.

    Args:
        image: (H, W, 3) uint8 RGB.
        metadata: for `sem_seg` as in `compare_sem_seg`, for `depth` with "max_depth".
        sem_seg: (H, W) class ids or `metadata.ignore_label` (drawn black).
        depth: (H, W) metres, 0 = no value (drawn grey).

    Returns:
        (H', W', 3) uint8 RGB with a title over each picture.
    """
    columns = [_with_title(image, "image")]
    if sem_seg is not None:
        columns.append(_with_title(_colorize(image, sem_seg, metadata), "classes"))
    if depth is not None:
        known = _thickened(np.where(depth > 0, depth, np.nan), np.fmin)
        picture = _color_mapped(known, metadata.max_depth, _DEPTH_COLORS, True)
        columns.append(_with_title(picture, f"depth, 0 to {metadata.max_depth:g} m"))
    return _side_by_side(columns)


def compare_people(
    image: np.ndarray, prediction: Instances, truth: Instances | None, metadata: Metadata
) -> np.ndarray:
    """Image, annotated and predicted skeletons side by side, drawn by Detectron2's `Visualizer`.

    Small images are enlarged by a whole factor.

    Args:
        image: (H, W, 3) uint8 RGB.
        prediction, truth: with `pred_keypoints` (K, J, 3) and `pred_boxes` in the image's pixels,
            on the CPU. Joints with a third value up to 0.05 are not drawn.
        metadata: with "keypoint_names" and "keypoint_connection_rules".

    Returns:
        (H', W', 3) uint8 RGB with a title over each picture.
    """
    scale = max(1, _PEOPLE_WIDTH // image.shape[1])

    def drawn(people: Instances) -> np.ndarray:
        shown = Instances(image.shape[:2])
        shown.pred_keypoints = people.pred_keypoints
        shown.pred_boxes = Boxes(people.pred_boxes.tensor.clone())
        visualizer = Visualizer(image, metadata, scale=scale)
        return visualizer.draw_instance_predictions(shown).get_image()

    predicted = drawn(prediction)
    size = predicted.shape[1::-1]
    pictures = [("image", cv2.resize(image, size, interpolation=cv2.INTER_NEAREST))]
    if truth is not None:
        pictures.append(("ground truth", drawn(truth)))
    pictures.append(("prediction", predicted))
    return _side_by_side([_with_title(picture, title) for title, picture in pictures])


def stack_rows(rows: Sequence[np.ndarray]) -> np.ndarray:
    """Rows of pictures under each other, narrower ones filled with white.

    Args:
        rows: (H_i, W_i, 3) uint8.
    """
    width = max(row.shape[1] for row in rows)
    return np.vstack(
        [
            np.pad(
                row,
                ((0, _GAP), (0, width - row.shape[1]), (0, 0)),
                constant_values=_WHITE,
            )
            for row in rows
        ]
    )


def _colorize(image: np.ndarray, labels: np.ndarray, metadata: Metadata) -> np.ndarray:
    """Blend class colours over the image; ids that are no class stay black."""
    num_classes = len(metadata.stuff_classes)
    palette = np.zeros((256, 3), np.uint8)
    palette[:num_classes] = metadata.get("stuff_colors", None) or _palette(num_classes)
    colors = palette[np.minimum(labels, 255)]
    blended = (0.3 * image + 0.7 * colors).astype(np.uint8)
    blended[labels >= num_classes] = 0
    return blended


def _palette(num_classes: int) -> np.ndarray:
    """Distinct colours: hues by the golden ratio."""
    hue = (np.arange(num_classes) * 0.618034 % 1 * 180).astype(np.uint8)
    hsv = np.stack([hue, np.full_like(hue, 180), np.full_like(hue, 230)], axis=-1)
    return cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0]


def _color_mapped(values: np.ndarray, end: float, color_map: int, reverse: bool) -> np.ndarray:
    """Colours of 0..end, RGB; NaN is grey."""
    missing = np.isnan(values)
    share = np.where(missing, 0, values / end).clip(0, 1)
    levels = np.rint((1 - share if reverse else share) * 255).astype(np.uint8)
    colors = cv2.cvtColor(cv2.applyColorMap(levels, color_map), cv2.COLOR_BGR2RGB)
    colors[missing] = _NO_VALUE
    return colors


def _scale_bar(width: int, height: int, end: float, color_map: int, reverse: bool) -> np.ndarray:
    """A strip with the colours of 0..end over their metres, 2 * `height` high."""
    bar = np.full((2 * height, width, 3), _WHITE, np.uint8)
    ramp = np.broadcast_to(np.linspace(0, end, width), (height - height // 4, width))
    bar[height // 4 : height] = _color_mapped(ramp, end, color_map, reverse)
    for label, place in (("0", 0.0), (f"{end / 2:.3g}", 0.5), (f"{end:.3g} m", 1.0)):
        (extent, _), _ = cv2.getTextSize(label, _FONT, height / 28, 1)
        left = int(place * (width - extent - 4)) + 2
        _write(bar, label, (left, int(height * 1.85)), height)
    return bar


def _thickened(
    values: np.ndarray, choose: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> np.ndarray:
    """Values grown to 3x3 pixels where most pixels have none (NaN)."""
    if np.isnan(values).mean() < 0.5:
        return values
    for axis in (0, 1):
        edge = [(1, 1) if other == axis else (0, 0) for other in (0, 1)]
        padded = np.pad(values, edge, constant_values=np.nan)
        before, after = np.delete(padded, [-1, -2], axis), np.delete(padded, [0, 1], axis)
        values = choose(choose(before, values), after)
    return values


def _side_by_side(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures of one height with gaps between them."""
    gap = np.full((columns[0].shape[0], _GAP, 3), _WHITE, np.uint8)
    return np.hstack([part for column in columns for part in (column, gap)][:-1])


def _title_height(image: np.ndarray) -> int:
    return max(14, image.shape[0] // 14)


def _with_title(picture: np.ndarray, title: str) -> np.ndarray:
    height = _title_height(picture)
    bar = np.full((height, picture.shape[1], 3), _WHITE, np.uint8)
    _write(bar, title, (2, int(height * 0.75)), height)
    return np.vstack([bar, picture])


def _write(picture: np.ndarray, text: str, origin: tuple[int, int], height: int) -> None:
    """Black text for a line of `height` pixels, in place; `origin` is (x, y) of its base line."""
    cv2.putText(picture, text, origin, _FONT, height / 28, (0, 0, 0), 1, cv2.LINE_AA)
