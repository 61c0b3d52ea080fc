"""Dense predictions averaged over scales and mirror images, for segmentation and depth."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from detectron2.config import CfgNode, configurable, get_cfg
from detectron2.modeling.meta_arch import SemanticSegmentor
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..data import ResizeToBox
from ..utils.errors import InputError
from .meta_arch import DepthEstimator, SlidingWindowSegmentor
from .sliding_window import allocate_canvas, fits_canvas, resize_in_strips

__all__ = ["DenseModelWithTTA", "with_test_time_augmentation"]

_SEGMENTORS = (SlidingWindowSegmentor, SemanticSegmentor)


def with_test_time_augmentation(cfg: CfgNode, model: nn.Module) -> nn.Module:
    """The model as TEST.AUG asks for: wrapped, or itself where there is nothing to average.

    Models other than dense ones (Detectron2's detectors) are returned as they are.
    """
    if not cfg.TEST.AUG.ENABLED:
        return model
    bare = model.module if isinstance(model, DistributedDataParallel) else model
    if not isinstance(bare, (*_SEGMENTORS, DepthEstimator)):
        return model
    wrapped = DenseModelWithTTA(cfg, bare)
    # A depth estimator's own windows and mirror images need no wrapper.
    return model if wrapped.boxes == [None] and not wrapped.flip else wrapped


class DenseModelWithTTA(nn.Module):
    """Average a model's predictions over scales of the image and their mirror images.

    Class probabilities are averaged (method section 3.5), and depth in metres; each pass at the
    size of the output. Windows are the model's own. The mirror image passes through the model with
    the image, so that windows of both fill its batches; a `DepthEstimator` mirrors by itself.

    Memory: one sum of K x H x W float32 values (K classes, H x W the output's size), in the main
    memory where it is larger than `canvas_gib`; the model's output for one pass at the scale's size
    (for a pass and its mirror image, if both fit `canvas_gib`); and a few strips of rows of 64 MiB
    (or of one row). Neither the number of scales nor, besides the sum, the output's size matters.
    """

    @configurable
    def __init__(
        self,
        model: nn.Module,
        *,
        boxes: Sequence[tuple[int, int] | None],
        flip: bool,
        num_channels: int = 1,
        canvas_gib: float = 4.0,
    ):
        """
        Args:
            model: with the interface of `SlidingWindowSegmentor` or `DepthEstimator`.
            boxes: (long side, short side) that the image is fitted into, one for each scale; None
                for the image as it is.
            flip: average over the mirror images of all scales, too.
            num_channels: K, by which the size of outputs is known beforehand; 1 for depth.
            canvas_gib: a sum larger than this lies in the main memory, not on the model's device;
                and mirror images of which the outputs take more are predicted by themselves.

        Raises:
            InputError: no scale, or a box that no image fits.
        """
        super().__init__()
        if not boxes:
            raise InputError("TEST.AUG.MIN_SIZES is empty: there is no scale to predict at")
        self.model = model
        self.boxes = list(boxes)
        self.resizes = [None if box is None else ResizeToBox(*box) for box in self.boxes]
        self.flip = flip
        self.num_channels = num_channels
        self.canvas_gib = canvas_gib

    @classmethod
    def from_config(cls, cfg: CfgNode, model: nn.Module) -> dict:
        is_depth = isinstance(model, DepthEstimator)
        return {
            "model": model,
            "boxes": _boxes(cfg),
            "flip": cfg.TEST.AUG.FLIP and not is_depth,
            "num_channels": 1 if is_depth else cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            "canvas_gib": cfg.TEST.CANVAS_GIB,
        }

    @property
    def device(self) -> torch.device:
        return self.model.device

    @torch.no_grad()
    def forward(self, batched_inputs: list[dict]) -> list[dict[str, Tensor]]:
        """
        Args:
            batched_inputs: as the model takes them, with images that no scale was applied to.

        Returns:
            one dict an image with "sem_seg": class probabilities (K, height, width), or "depth":
            (height, width) in metres.

        Raises:
            InputError: a scale at which the model cannot take the image.
        """
        return [self._predict(inputs) for inputs in batched_inputs]

    def _predict(self, inputs: dict) -> dict[str, Tensor]:
        height, width = inputs["image"].shape[-2:]
        size = inputs.get("height", height), inputs.get("width", width)
        task, total, passes = "", None, 0
        for task, maps, mirrored in self._passes(inputs):
            if total is None:
                dtype = torch.promote_types(maps.dtype, torch.float32)
                total = allocate_canvas((len(maps), *size), dtype, self.device, self.canvas_gib)
            for rows, strip in resize_in_strips(maps, size):
                strip = strip.to(total.dtype)
                strip = strip.softmax(dim=0) if task == "sem_seg" else strip
                total[:, rows] += (strip.flip(-1) if mirrored else strip).to(total.device)
            passes += 1
            del maps  # before the next pass
        total /= passes
        return {task: total[0] if task == "depth" else total}

    def _passes(self, inputs: dict) -> Iterator[tuple[str, Tensor, bool]]:
        """Task, (K, h, w) output at the scale's size, and whether it is mirrored, of all passes."""
        image, name = inputs["image"], inputs.get("file_name", "an image")
        for box, resize in zip(self.boxes, self.resizes, strict=True):
            scaled = image if resize is None else _resized_image(image, resize)
            shape = 1 + self.flip, self.num_channels, *scaled.shape[-2:]
            for views in _views(self.flip, together=fits_canvas(shape, self.canvas_gib)):
                images = [scaled.flip(-1) if mirrored else scaled for mirrored in views]
                outputs = self._outputs(images, box, name)
                for mirrored in views:
                    yield *outputs.pop(0), mirrored

    def _outputs(
        self, images: Sequence[Tensor], box: tuple[int, int] | None, name: str
    ) -> list[tuple[str, Tensor]]:
        """Task and (K, h, w) output of views of an image at one scale."""
        try:
            outputs = self.model([{"image": image} for image in images])
        except ValueError as error:
            height, width = images[0].shape[-2:]
            source = "" if box is None else f" (TEST.AUG.MIN_SIZES {box[1]})"
            raise InputError(
                f"{name} of {height}x{width} pixels (height x width){source} cannot be "
                f"predicted: {error}"
            ) from error
        return [_maps(output) for output in outputs]


def _maps(output: dict[str, Tensor]) -> tuple[str, Tensor]:
    """Task and (K, h, w) values of a model's output."""
    return ("depth", output["depth"][None]) if "depth" in output else ("sem_seg", output["sem_seg"])


def _views(flip: bool, *, together: bool) -> list[list[bool]]:
    """Which images pass at once, the image as it is (False) and mirrored."""
    if not flip:
        return [[False]]
    return [[False, True]] if together else [[False], [True]]


def _boxes(cfg: CfgNode) -> list[tuple[int, int] | None]:
    """(long side, short side) of every scale; None for the image's own size."""
    aug = cfg.TEST.AUG
    short_sides, long_sides = list(aug.MIN_SIZES), list(aug.MAX_SIZES)
    # Detectron2's own default is made for detectors.
    if tuple(short_sides) == tuple(get_cfg().TEST.AUG.MIN_SIZES):
        short_sides = [cfg.INPUT.MIN_SIZE_TEST]
        long_sides = [cfg.INPUT.MAX_SIZE_TEST]
    long_sides = long_sides or [aug.MAX_SIZE] * len(short_sides)
    if len(long_sides) != len(short_sides):
        raise InputError(
            f"TEST.AUG.MAX_SIZES has {len(long_sides)} sizes, TEST.AUG.MIN_SIZES {len(short_sides)}"
        )
    for short, long in zip(short_sides, long_sides, strict=True):
        if short < 0 or (short and long < short):
            raise InputError(
                f"TEST.AUG: a short side of {short} and a long side of {long} pixels make no box "
                "that images fit (MIN_SIZES, with MAX_SIZES or MAX_SIZE)"
            )
    return [
        (long, short) if short else None
        for short, long in zip(short_sides, long_sides, strict=True)
    ]


def _resized_image(image: Tensor, resize: ResizeToBox) -> Tensor:
    """(C, H, W) of any number type, resized as the test images of one scale are."""
    pixels = np.ascontiguousarray(image.cpu().numpy().transpose(1, 2, 0))
    pixels = resize.get_transform(pixels).apply_image(pixels)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
