"""Pictures of predictions next to their ground truth, drawn during evaluation."""

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import cv2
import numpy as np
from detectron2.data import Metadata, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import Instances
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage, has_event_storage
from detectron2.utils.registry import Registry

from ..data.readers import read_checked_labels, read_depth, read_image
from ..data.segments import read_segments
from ..metrics import classify_pixels, kb_crop_box
from ..utils.errors import InputError
from ..utils.files import write_png
from ..visualization import (
    annotated_people,
    compare_depth,
    compare_people,
    compare_segments,
    compare_sem_seg,
    confident,
    stack_rows,
)

logger = logging.getLogger(__name__)

_MAX_WIDTH = 6400  # pixels of a row; enough for three images of Cityscapes

# What drawing may raise for a dataset that it doesn't fit: metadata or keys are missing, values
# have another type or shape, files cannot be read or written (`InputError` is a ValueError).
_FAILURES = (AttributeError, LookupError, TypeError, ValueError, cv2.error)

PICTURES_REGISTRY = Registry("PICTURES")
PICTURES_REGISTRY.__doc__ = """
Maps an `evaluator_type` or output key to a function with the signature of `draw_prediction`.
"""


@PICTURES_REGISTRY.register()
def sem_seg(item: dict, output: dict, metadata: Metadata) -> np.ndarray | None:
    """Draw classes. Other dense outputs, which use the key "sem_seg" too, have no picture."""
    if metadata.get("stuff_classes", None) is None:
        return None
    image, truth = read_image(item["file_name"], "RGB"), None
    if item.get("sem_seg_file_name") is not None:
        size, num_classes = image.shape[:2], len(metadata.stuff_classes)
        ignored = metadata.get("ignore_label", 255)
        truth = read_checked_labels(item, size, num_classes=num_classes, ignore_value=ignored)
    return compare_sem_seg(image, classify_pixels(output["sem_seg"]), truth, metadata)


@PICTURES_REGISTRY.register()
def depth(item: dict, output: dict, metadata: Metadata) -> np.ndarray:
    image = read_image(item["file_name"], "RGB")
    frame = kb_crop_box(*image.shape[:2]) if item.get("kb_crop", False) else ()
    truth = item.get("depth_file_name")
    if metadata.get("max_depth", None) is None:
        raise InputError(f"metadata of dataset {metadata.name!r} has no max_depth (in meters)")
    return compare_depth(
        image[frame],
        output["depth"].float().cpu().numpy(),
        None if truth is None else read_depth(truth, item["depth_scale"])[frame],
        max_depth=metadata.max_depth,
    )


@PICTURES_REGISTRY.register()
def panoptic_seg(item: dict, output: dict, metadata: Metadata) -> np.ndarray:
    image, truth = read_image(item["file_name"], "RGB"), None
    if "pan_seg_file_name" in item:
        numbers, infos = read_segments(item, image.shape[:2]), item["segments_info"]
        masks = [numbers == number for number in range(len(infos))]
        truth = masks, [info["category_id"] for info in infos]
    ids, found = output["panoptic_seg"]
    masks = [(ids == info["id"]).cpu().numpy() for info in found]
    prediction = masks, [info["category_id"] for info in found]
    return compare_segments(image, prediction, truth, metadata)


@PICTURES_REGISTRY.register()
def instances(item: dict, output: dict, metadata: Metadata) -> np.ndarray | None:
    """Draw people with keypoints, or masks; other instances have no picture."""
    found = output["instances"].to("cpu")
    if not found.has("pred_keypoints") and not found.has("pred_masks"):
        return None
    image = read_image(item["file_name"], "RGB")
    if found.has("pred_keypoints"):
        return compare_people(image, found, annotated_people(item), metadata)
    shown = confident(found)
    prediction = list(shown.pred_masks.numpy().astype(bool)), shown.pred_classes.tolist()
    return compare_segments(image, prediction, None, metadata)


def draw_prediction(item: dict, output: dict, metadata: Metadata) -> np.ndarray | None:
    """Draw the image, the ground truth (if any) and the prediction in a row.

    Args:
        item, output: Dataset dict and model output of the image.
        metadata: Metadata of the dataset.

    Returns:
        (H', W', 3) uint8 RGB, or None for outputs that have no picture.
    """
    names = (metadata.get("evaluator_type", None), *output)
    name = next((name for name in names if name in PICTURES_REGISTRY), None)
    return None if name is None else PICTURES_REGISTRY.get(name)(item, output, metadata)


def merge_people(items: Sequence[dict]) -> dict:
    """Merge per-person dicts of an image into one dict with all annotations."""
    annotations = [person for item in items for person in item.get("annotations", ())]
    return items[0] | {"annotations": annotations}


class PictureWriter(DatasetEvaluator):
    """Write the first predictions of the main process to `<output_dir>/pictures.png`.

    There is one row for each image, up to `num_pictures`. During training, the pictures are also
    sent to TensorBoard. A picture that cannot be drawn or written is logged and left out, and the
    evaluation continues.
    """

    def __init__(self, dataset_name: str, output_dir: str, num_pictures: int):
        self.dataset_name = dataset_name
        self.metadata = MetadataCatalog.get(dataset_name)
        self.output_dir = output_dir
        self.num_pictures = num_pictures
        self.reset()

    def reset(self) -> None:
        self._rows: list[np.ndarray] = []
        self._people: dict[str, list[tuple[dict, Instances]]] = {}

    def process(self, inputs: list[dict], outputs: list[dict]) -> None:
        if not comm.is_main_process():
            return
        for item, output in zip(inputs, outputs, strict=True):
            if "instances" in output and output["instances"].has("pred_keypoints"):
                self._add_people(item, output["instances"])
            elif len(self._rows) < self.num_pictures:
                self._draw(item, output)

    def evaluate(self) -> None:
        """Write the file; there are no metrics."""
        for people in self._people.values():
            items, found = zip(*people, strict=True)
            self._draw(merge_people(items), {"instances": Instances.cat(list(found))})
        if not self._rows:
            return
        file = os.path.join(self.output_dir, "pictures.png")
        with _logged_failures(file):
            pictures = stack_rows(self._rows)
            write_png(pictures, file)
            if has_event_storage():
                name = f"{self.dataset_name}/pictures"
                get_event_storage().put_image(name, pictures.transpose(2, 0, 1))
            logger.info("Pictures of %d predictions: %s", len(self._rows), file)

    def _draw(self, item: dict, output: dict) -> None:
        """Add a row if there is one, shrunk to `_MAX_WIDTH`: rows stay in memory until the end."""
        with _logged_failures(f"the picture of {item.get('file_name', 'an image')}"):
            row = draw_prediction(item, output, self.metadata)
            if row is None:
                return
            height, width = row.shape[:2]
            if width > _MAX_WIDTH:
                size = _MAX_WIDTH, max(round(height * _MAX_WIDTH / width), 1)
                row = cv2.resize(row, size, interpolation=cv2.INTER_AREA)
            self._rows.append(row)

    def _add_people(self, item: dict, found: Instances) -> None:
        """Keep people until all people of their image have arrived."""
        name = item["file_name"]
        if name in self._people or len(self._people) < self.num_pictures:
            fields = "pred_boxes", "pred_keypoints", "scores", "pred_classes"
            kept = {key: found.get(key).to("cpu") for key in fields if found.has(key)}
            item = {key: value for key, value in item.items() if key != "image"}
            self._people.setdefault(name, []).append((item, Instances(found.image_size, **kept)))


@contextmanager
def _logged_failures(what: str) -> Iterator[None]:
    """Log a failure instead of raising it, with its traceback unless it is wrong input."""
    try:
        yield
    except _FAILURES as error:
        logger.warning(
            "%s is left out: %s", what, error, exc_info=not isinstance(error, InputError)
        )
