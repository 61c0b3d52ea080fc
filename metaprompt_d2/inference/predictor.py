"""`Predictor`: predict images, folders and videos with the model of any config."""

import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import Metadata, MetadataCatalog
from detectron2.data import transforms as T
from detectron2.structures import Boxes, Instances
from PIL import Image
from torch import nn

from ..data import build_mapper, find_keypoint_metadata
from ..data.readers import image_pixels, read_image
from ..engine import load_model
from ..evaluation import describe_not_finite
from ..modeling import with_test_time_augmentation
from ..utils.errors import InputError, input_errors
from ..utils.tasks import find_task
from .given_boxes import AnyBoxes, read_boxes
from .sources import Video, find_sources

logger = logging.getLogger(__name__)

AnyImage = str | os.PathLike[str] | np.ndarray | Image.Image
OnError = Callable[[str, Exception], None]
_Item = tuple[str, AnyImage, AnyBoxes | None]  # name, image, boxes
_Prepared = tuple[np.ndarray, dict[str, Any]]  # (H, W, 3) uint8 BGR, the model's input
_Pending = tuple[str, Future[_Prepared]]  # name, `_Prepared`
_Batch = list[tuple[str, np.ndarray, dict[str, Any]]]  # name and `_Prepared`
# Errors of one image, after which the next ones can still be predicted. Others are bugs.
_FAILURES = (InputError, torch.OutOfMemoryError)


class Prediction(NamedTuple):
    """One image of several and its prediction."""

    name: str  # file, or frame number
    image: np.ndarray  # (H, W, 3) uint8 BGR
    output: dict[str, Any]  # of the model


class Predictor:
    """Detectron2's `DefaultPredictor` for all tasks of this package, batches and videos.

        predictor = Predictor(get_config("cityscapes_seg.yaml", weights="model_best.pth"))
        labels = predictor("street.jpg")["sem_seg"].argmax(dim=0)

    Test-time augmentation and windows are those of the evaluation. As in `DefaultPredictor`, NumPy
    arrays are BGR, as OpenCV reads them, whatever INPUT.FORMAT is. Image files and PIL images may
    have any mode.
    """

    def __init__(self, cfg: CfgNode, *, model: nn.Module | None = None):
        """
        Args:
            cfg: Config, for example from `get_config`. It is copied.
            model: Model to use (default: the config's, with its weights).

        Raises:
            InputError: MODEL.WEIGHTS is empty, or doesn't fit the model, and no model is given.
        """
        self.cfg = cfg.clone()
        bare = load_model(self.cfg) if model is None else model
        self.model = with_test_time_augmentation(self.cfg, bare.eval())
        # People are cut out by the model itself, so that whole images can be given.
        self._is_pose = find_task(self.cfg) == "pose"
        mapper: Any = build_mapper(self.cfg, is_train=False)
        self._augmentations = T.AugmentationList([] if self._is_pose else [mapper.augmentations])
        self.metadata = _build_metadata(self.cfg)

    def __call__(self, image: AnyImage, *, boxes: AnyBoxes | None = None) -> dict[str, Any]:
        """Predict one image.

        Args:
            image: Path, PIL image, or (H, W, 3) uint8 BGR.
            boxes: People to pose, as (K, 4) corners x0, y0, x1, y1 in pixels, or (K, 5) with the
                index of the category in `metadata.thing_classes` (default: 0). Without boxes
                MODEL.PERSON_DETECTOR finds people, or the whole image is taken for one person.

        Returns:
            The model's output at the image's own size: "sem_seg" (classes, H, W), "depth" (H, W)
            in meters, or "instances" with `pred_keypoints`.

        Raises:
            InputError: The image cannot be read (`MissingFileError` for a missing file), boxes
                are given for another task than pose, or a box isn't one of `read_boxes`.
            TypeError: The image is none of these types.
        """
        (output,) = self._run([self.inputs(image, boxes=boxes)])
        _warn_if_not_finite("the image" if isinstance(image, np.ndarray) else str(image), output)
        return output

    def inputs(self, image: AnyImage, *, boxes: AnyBoxes | None = None) -> dict[str, Any]:
        """Prepare the model's input for the arguments of a call."""
        return self._prepare(image, boxes)[1]

    def files(
        self,
        patterns: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        batch_size: int = 1,
        boxes: Mapping[str, AnyBoxes] | None = None,
        on_error: OnError | None = None,
    ) -> Iterator[Prediction]:
        """Predict image files, folders (with their subfolders) and glob patterns.

        Args:
            patterns: Patterns as `find_sources` takes them; videos among them are skipped.
            batch_size: Number of images per batch.
            boxes: People's boxes by file.
            on_error: Function called with an image's name and the InputError or OutOfMemoryError
                that it causes; the next image follows. By default the error is raised.
        """
        patterns = [patterns] if isinstance(patterns, str | os.PathLike) else patterns
        files = [source.file for source in find_sources(patterns) if not source.is_video]
        items = ((file, file, boxes.get(file) if boxes else None) for file in files)
        return self.stream(items, batch_size=batch_size, on_error=on_error)

    def video(
        self, video: Video | str | os.PathLike[str] | int, *, batch_size: int = 1
    ) -> Iterator[Prediction]:
        """Predict the frames of a video file, or of a camera given by its number."""
        frames = video if isinstance(video, Video) else Video(video)
        items = ((str(number), frame, None) for number, frame in enumerate(frames))
        return self.stream(items, batch_size=batch_size)

    def stream(
        self, items: Iterable[_Item], *, batch_size: int = 1, on_error: OnError | None = None
    ) -> Iterator[Prediction]:
        """Predict images in their order, reading the next ones in a thread.

        Args:
            items: Name, image and boxes (or None) of every image.
            batch_size, on_error: As in `files`.
        """
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}, expected at least 1")
        batch: _Batch = []
        for name, prepared in self._prepare_ahead(items, batch_size):
            try:
                batch.append((name, *prepared.result()))
            except _FAILURES as error:
                if on_error is None:
                    raise
                on_error(name, error)
            if len(batch) == batch_size:
                yield from self._predict_batch(batch, on_error)
                batch = []
        yield from self._predict_batch(batch, on_error)

    def _predict_batch(self, batch: _Batch, on_error: OnError | None) -> Iterator[Prediction]:
        if not batch:
            return
        try:
            outputs = self._run([inputs for *_, inputs in batch])
        except _FAILURES as error:
            if on_error is None:
                raise
            if len(batch) == 1:
                on_error(batch[0][0], error)
            else:  # find the one that fails
                for item in batch:
                    yield from self._predict_batch([item], on_error)
            return
        for (name, pixels, _), output in zip(batch, outputs, strict=True):
            _warn_if_not_finite(name, output)
            yield Prediction(name, pixels, output)

    @torch.no_grad()
    def _run(self, inputs: list[dict]) -> list[dict[str, Any]]:
        return self.model(inputs)

    def _prepare_ahead(self, items: Iterable[_Item], depth: int) -> Iterator[_Pending]:
        """Let a thread prepare items, `depth` of them ahead."""
        waiting: deque[_Pending] = deque()
        with ThreadPoolExecutor(max_workers=1) as pool:
            for name, image, boxes in items:
                waiting.append((name, pool.submit(self._prepare, image, boxes)))
                if len(waiting) > depth:
                    yield waiting.popleft()
            yield from waiting

    def _prepare(self, source: AnyImage, boxes: AnyBoxes | None) -> _Prepared:
        pixels = _read_pixels(source)
        height, width = pixels.shape[:2]
        image = image_pixels(Image.fromarray(pixels[..., ::-1]), self.cfg.INPUT.FORMAT)
        augmented = T.AugInput(image)
        self._augmentations(augmented)
        image = np.ascontiguousarray(augmented.image.transpose(2, 0, 1))
        inputs = {"image": torch.from_numpy(image), "height": height, "width": width}
        if boxes is not None:
            inputs["instances"] = self._build_people(boxes, (height, width))
        return pixels, inputs

    def _build_people(self, boxes: AnyBoxes, size: tuple[int, int]) -> Instances:
        if not self._is_pose:
            raise InputError(f"boxes are for poses, not for a {self.cfg.MODEL.META_ARCHITECTURE}")
        number = len(self.metadata.thing_classes)
        corners, categories = read_boxes(boxes, "boxes", size=size, num_categories=number)
        return Instances(size, pred_boxes=Boxes(corners), pred_classes=categories)


def _warn_if_not_finite(name: str, output: dict[str, Any]) -> None:
    if found := describe_not_finite(output):
        logger.warning("%s: the prediction is NaN or infinite: %s", name, found)


def _read_pixels(image: AnyImage) -> np.ndarray:
    """Read (H, W, 3) uint8 BGR from an image of any kind."""
    if isinstance(image, np.ndarray):
        if image.shape[2:] != (3,) or image.dtype != np.uint8 or not image.size:
            raise InputError(
                f"the image is an array of shape {image.shape} and type {image.dtype}, expected "
                "(height, width, 3) and uint8: BGR, as OpenCV reads it"
            )
        return image
    if isinstance(image, Image.Image):
        with input_errors("the image cannot be read", OSError):  # PIL decodes it here
            return image_pixels(image, "BGR")
    if isinstance(image, str | os.PathLike):
        return read_image(os.fspath(image), "BGR")
    raise TypeError(
        f"the image is a {type(image).__name__}, expected a path, a PIL image or a NumPy array "
        "(several go to `files` or `stream`)"
    )


def _build_metadata(cfg: CfgNode) -> Metadata:
    """Take the test set's metadata, with defaults from the config if it is not registered."""
    name = cfg.DATASETS.TEST[0] if cfg.DATASETS.TEST else ""
    known = MetadataCatalog.get(name).as_dict() if name in MetadataCatalog.list() else {}
    num_classes = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
    if len(known.get("stuff_classes", ())) != num_classes:
        known["stuff_classes"] = [str(number) for number in range(num_classes)]
        known.pop("stuff_colors", None)
    defaults = {
        "ignore_label": cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
        "max_depth": cfg.MODEL.DEPTH_HEAD.MAX_DEPTH,
    }
    if find_task(cfg) == "pose" or cfg.MODEL.KEYPOINT_ON:
        known |= find_keypoint_metadata(cfg)
    return Metadata(**defaults | known | {"name": "predictor"})
