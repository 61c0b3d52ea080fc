"""`Predictor`: images in, predictions out, for any task that a config names."""

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
from torch import Tensor, nn

from ..data import build_mapper
from ..data.readers import image_pixels, read_image
from ..engine import load_model
from ..modeling import with_test_time_augmentation
from ..utils.errors import InputError
from ..utils.tasks import find_task
from .sources import Video, find_sources

__all__ = ["Prediction", "Predictor"]

logger = logging.getLogger(__name__)

AnyImage = str | os.PathLike | np.ndarray | Image.Image
AnyBoxes = Sequence[Sequence[float]] | np.ndarray | Tensor
# What makes one image fail and leaves the next one its chance.
_FAILURES = (ValueError, OSError, torch.OutOfMemoryError)


class Prediction(NamedTuple):
    """What became of one image of several."""

    name: str  # file, or number of the frame
    image: np.ndarray  # (H, W, 3) uint8 BGR
    output: dict[str, Any]  # as of the model


class Predictor:
    """Detectron2's `DefaultPredictor` for this package's tasks, and for several images.

        predictor = Predictor(get_config("cityscapes_seg.yaml", weights="model_best.pth"))
        labels = predictor("street.jpg")["sem_seg"].argmax(dim=0)

    The config's META_ARCHITECTURE tells the task; test-time augmentation and windows are as in its
    evaluation. As in `DefaultPredictor`, NumPy arrays are BGR, which is what OpenCV reads; what
    the model wants (INPUT.FORMAT) does not matter. Paths and PIL images may be of any mode.
    """

    def __init__(self, cfg: CfgNode, *, model: nn.Module | None = None):
        """
        Args:
            cfg: e.g. of `get_config`. It is copied.
            model: instead of building and loading it.
        """
        self.cfg = cfg.clone()
        if model is None and not cfg.MODEL.WEIGHTS:
            logger.warning("MODEL.WEIGHTS is empty: nothing was trained, predictions are noise")
        bare = load_model(self.cfg).eval() if model is None else model.eval()
        self.model = with_test_time_augmentation(self.cfg, bare)
        mapper = build_mapper(self.cfg, is_train=False)
        self._poses = find_task(self.cfg) == "pose"  # which are predicted from whole images here
        self._augmentation = T.AugmentationList([] if self._poses else [mapper.augmentations])
        self.metadata = _metadata(self.cfg)

    def __call__(self, image: AnyImage, *, boxes: AnyBoxes | None = None) -> dict[str, Any]:
        """
        Args:
            image: a path, a PIL image, or (H, W, 3) uint8 BGR.
            boxes: of the people to pose, (K, 4) corners x0, y0, x1, y1 in pixels. Without them
                MODEL.PERSON_DETECTOR finds people, or the whole image is one.

        Returns:
            what the model gives at the image's own size: "sem_seg" (classes, H, W), "depth" (H, W)
            in metres, or "instances" with `pred_keypoints`; see the meta-architecture.

        Raises:
            FileNotFoundError, TypeError, InputError: an image that cannot be read or predicted, or
                boxes for another task.
        """
        return self._run([self.inputs(image, boxes=boxes)])[0]

    def inputs(self, image: AnyImage, *, boxes: AnyBoxes | None = None) -> dict[str, Any]:
        """What the model is given for an image; arguments as in a call."""
        return self._inputs(_pixels(image), boxes)

    def files(
        self,
        patterns: str | os.PathLike | Sequence[str | os.PathLike],
        *,
        batch_size: int = 1,
        boxes: Mapping[str, AnyBoxes] | None = None,
        on_error: Callable[[str, Exception], None] | None = None,
    ) -> Iterator[Prediction]:
        """Predict image files, folders (with sub-folders) and glob patterns.

        Args:
            patterns: see `find_sources`; videos among them are left out.
            batch_size: images that are given to the model at once.
            boxes: people's boxes by file.
            on_error: called with a file that cannot be predicted and the reason, and the next ones
                follow; by default the error is raised.
        """
        patterns = [patterns] if isinstance(patterns, str | os.PathLike) else patterns
        files = [source.file for source in find_sources(patterns) if not source.is_video]
        return self.stream(
            ((file, file, boxes.get(file) if boxes else None) for file in files),
            batch_size=batch_size,
            on_error=on_error,
        )

    def video(
        self, video: Video | str | os.PathLike | int, *, batch_size: int = 1
    ) -> Iterator[Prediction]:
        """Predict the frames of a video file, or of the camera of a number."""
        frames = video if isinstance(video, Video) else Video(video)
        items = ((str(number), frame, None) for number, frame in enumerate(frames))
        return self.stream(items, batch_size=batch_size)

    def stream(
        self,
        items: Iterable[tuple[str, AnyImage, AnyBoxes | None]],
        *,
        batch_size: int = 1,
        on_error: Callable[[str, Exception], None] | None = None,
    ) -> Iterator[Prediction]:
        """Predict what comes, in its order; images are read ahead in a thread.

        Args:
            items: name, image and boxes (None: as in a single call).
            batch_size: images that are given to the model at once.
            on_error: as in `files`.
        """
        if batch_size < 1:
            raise InputError(f"batch_size is {batch_size}, expected at least 1")

        def prepare(item: tuple) -> tuple[np.ndarray, dict]:
            pixels = _pixels(item[1])
            return pixels, self._inputs(pixels, item[2])

        batch: list[tuple[str, np.ndarray, dict]] = []
        for (name, *_), prepared in _ahead(items, prepare, batch_size):
            try:
                batch.append((name, *prepared.result()))
            except _FAILURES as error:
                if on_error is None:
                    raise
                on_error(name, error)
            if len(batch) == batch_size:
                yield from self._predictions(batch, on_error)
                batch = []
        yield from self._predictions(batch, on_error)

    def _predictions(
        self,
        batch: list[tuple[str, np.ndarray, dict]],
        on_error: Callable[[str, Exception], None] | None,
    ) -> Iterator[Prediction]:
        if not batch:
            return
        try:
            outputs = self._run([inputs for *_, inputs in batch])
        except _FAILURES as error:
            if on_error is None:
                raise
            if len(batch) == 1:
                on_error(batch[0][0], error)
                return
            for item in batch:  # one of them is to blame
                yield from self._predictions([item], on_error)
            return
        for (name, pixels, _), output in zip(batch, outputs, strict=True):
            yield Prediction(name, pixels, output)

    @torch.no_grad()
    def _run(self, inputs: list[dict]) -> list[dict[str, Any]]:
        return self.model(inputs)

    def _inputs(self, pixels: np.ndarray, boxes: AnyBoxes | None) -> dict[str, Any]:
        """(H, W, 3) BGR to what the model reads."""
        image = image_pixels(Image.fromarray(pixels[..., ::-1]), self.cfg.INPUT.FORMAT)
        height, width = image.shape[:2]
        augmented = T.AugInput(image)
        self._augmentation(augmented)
        image = np.ascontiguousarray(augmented.image.transpose(2, 0, 1))
        inputs = {"image": torch.from_numpy(image), "height": height, "width": width}
        if boxes is not None:
            inputs["instances"] = self._people(boxes, (height, width))
        return inputs

    def _people(self, boxes: AnyBoxes, size: tuple[int, int]) -> Instances:
        if not self._poses:
            raise InputError(f"boxes are for poses, not for a {self.cfg.MODEL.META_ARCHITECTURE}")
        corners = torch.as_tensor(boxes, dtype=torch.float32, device="cpu")
        if corners.numel() and corners.shape[1:] != (4,):
            raise InputError(f"boxes have shape {tuple(corners.shape)}, expected (people, 4)")
        return Instances(size, pred_boxes=Boxes(corners.reshape(-1, 4)))


def _pixels(image: AnyImage) -> np.ndarray:
    """(H, W, 3) uint8 BGR of an image of any kind."""
    if isinstance(image, np.ndarray):
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise InputError(
                f"the image is an array of shape {image.shape} and type {image.dtype}, expected "
                "(height, width, 3) and uint8: BGR, as OpenCV reads it"
            )
        return image
    if isinstance(image, Image.Image):
        return image_pixels(image, "BGR")
    if isinstance(image, str | os.PathLike):
        return read_image(os.fspath(image), "BGR")
    raise TypeError(
        f"the image is a {type(image).__name__}, expected a path, a PIL image or a NumPy array "
        "(several go to `files` or `stream`)"
    )


def _ahead(
    items: Iterable[Any], function: Callable[[Any], Any], depth: int
) -> Iterator[tuple[Any, Future]]:
    """Each item and the function's result for it, which a thread makes `depth` items ahead."""
    waiting: deque[tuple[Any, Future]] = deque()
    with ThreadPoolExecutor(max_workers=1) as pool:
        for item in items:
            waiting.append((item, pool.submit(function, item)))
            if len(waiting) > depth:
                yield waiting.popleft()
        yield from waiting


def _metadata(cfg: CfgNode) -> Metadata:
    """For pictures: that of the test set, and what a model tells where it is not registered."""
    known: dict[str, Any] = {}
    if cfg.DATASETS.TEST and cfg.DATASETS.TEST[0] in MetadataCatalog.list():
        known = MetadataCatalog.get(cfg.DATASETS.TEST[0]).as_dict()
    num_classes = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
    if len(known.get("stuff_classes", ())) != num_classes:
        known["stuff_classes"] = [str(number) for number in range(num_classes)]
        known.pop("stuff_colors", None)
    people = MetadataCatalog.get("keypoints_coco_2017_val")
    known = {
        "ignore_label": cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
        "max_depth": cfg.MODEL.DEPTH_HEAD.MAX_DEPTH,
        "keypoint_names": people.keypoint_names,
        "keypoint_connection_rules": people.keypoint_connection_rules,
    } | known
    return Metadata(**known | {"name": "predictor"})
