"""Average dense predictions over scales and mirror images."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from detectron2.config import CfgNode, configurable, get_cfg
from detectron2.modeling.meta_arch import SemanticSegmentor
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..data import ResizeToBox
from ..utils.errors import InputError
from .meta_arch.base import DenseModel
from .meta_arch.pose import TopDownPoseEstimator
from .meta_arch.universal import UniversalSegmentor
from .sliding_window import allocate_canvas, fits_canvas, resize_in_strips


def with_test_time_augmentation(cfg: CfgNode, model: nn.Module) -> nn.Module:
    """Wrap a model as TEST.AUG says.

    The model is returned as it is where there is nothing to average. A `TopDownPoseEstimator`
    averages over mirrored crops by itself.

    Raises:
        InputError: The model predicts no maps, or the scales are impossible.
    """
    if not cfg.TEST.AUG.ENABLED:
        return model
    bare = model.module if isinstance(model, DistributedDataParallel) else model
    if isinstance(bare, TopDownPoseEstimator):
        return model
    wrapped = DenseModelWithTTA(cfg, bare)
    # A depth estimator averages over windows and mirror images without a wrapper.
    return model if wrapped.boxes == [None] and not wrapped.flip else wrapped


class DenseModelWithTTA(nn.Module):
    """Averages a model's predictions over scales of the image and their mirror images.

    Class probabilities are averaged as in mmsegmentation, other values, such as depth in meters,
    as they are, at the output's size. Under the key "sem_seg", maps of one channel are values; maps
    of more channels are logits of `num_channels` classes. The model places its windows by itself.
    The image and its mirror image pass through the model together, so that windows of both fill its
    batches. A `DepthEstimator` mirrors by itself.

    Memory: one sum of K x H x W float32 values (K classes, H x W the output's size), in main memory
    where it is larger than `canvas_gib`; the model's output for one scale (and its mirror image, if
    both fit `canvas_gib`); and a few strips of rows of 64 MiB, or of one row. The number of scales
    doesn't matter.
    """

    @configurable
    def __init__(
        self,
        model: DenseModel | SemanticSegmentor,
        *,
        boxes: Sequence[tuple[int, int] | None],
        flip: bool,
        num_channels: int = 1,
        canvas_gib: float = 4.0,
    ):
        """
        Args:
            model: A `DenseModel`, or Detectron2's `SemanticSegmentor`.
            boxes: Box (long side, short side) of each scale, into which the image is fitted; None
                for the image as it is.
            flip: Whether to average over the mirror images too.
            num_channels: Number of classes; 1 for depth, or if it isn't known.
            canvas_gib: Size in GiB above which the sum is kept in main memory and not on the
                model's device, and above which mirror images are predicted separately.

        Raises:
            InputError: The model predicts no maps, or segments besides them.
        """
        super().__init__()
        if not isinstance(model, DenseModel | SemanticSegmentor):
            raise InputError(
                f"TEST.AUG.ENABLED is True, but a {type(model).__name__} has no test-time "
                "augmentation: it averages the maps of a DenseModel or a SemanticSegmentor. Set it "
                "to False"
            )
        if isinstance(model, UniversalSegmentor) and (model.panoptic or model.instances):
            raise InputError(
                "TEST.AUG.ENABLED is True, but test-time augmentation averages scores of classes: "
                "set it, or MODEL.MASK2FORMER.TEST.PANOPTIC_ON and INSTANCE_ON, to False"
            )
        self.model = model
        self.task = _task(model)
        self.map_name = model.map_name if isinstance(model, DenseModel) else "sem_seg"
        self.boxes = list(boxes)
        self.flip = flip
        self.num_channels = num_channels
        self.canvas_gib = canvas_gib

    @classmethod
    def from_config(cls, cfg: CfgNode, model: nn.Module) -> dict:
        is_depth = _task(model) == "depth"
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
        """Predict each of the model's inputs, whose images aren't resized, at all scales.

        Returns:
            One dict for each image, with averages in the shape of the model's own output:
            "sem_seg": class probabilities or values (K, height, width); "depth": (height, width)
            in meters; or maps under the name of your own task.

        Raises:
            InputError: The model cannot take the image at a scale, or its maps are neither values
                nor logits of `num_channels` classes.
        """
        return [self._predict(inputs) for inputs in batched_inputs]

    def _predict(self, inputs: dict) -> dict[str, Tensor]:
        height, width = inputs["image"].shape[-2:]
        size = inputs.get("height", height), inputs.get("width", width)
        total, passes, has_channels = torch.empty(0), 0, True
        for output, mirrored in self._passes(inputs):
            has_channels = output.ndim == 3
            maps = output if has_channels else output[None]
            classes = self._are_classes(maps)
            if passes == 0:
                dtype = torch.promote_types(maps.dtype, torch.float32)
                total = allocate_canvas((len(maps), *size), dtype, self.device, self.canvas_gib)
            for rows, strip in resize_in_strips(maps, size):
                strip = strip.to(total.dtype)
                strip = strip.softmax(dim=0) if classes else strip
                total[:, rows] += (strip.flip(-1) if mirrored else strip).to(total.device)
            passes += 1
            del output, maps  # before the next pass
        total /= passes
        return {self.map_name: total if has_channels else total[0]}

    def _are_classes(self, maps: Tensor) -> bool:
        """Say whether maps (K, h, w) are logits of classes, and not values."""
        if self.task != "sem_seg" or len(maps) == 1:
            return False
        if self.num_channels not in (1, len(maps)):
            raise InputError(
                f"TEST.AUG.ENABLED is True, but the model gives {len(maps)} channels: neither one "
                f"value nor the {self.num_channels} classes of MODEL.SEM_SEG_HEAD.NUM_CLASSES"
            )
        return True

    def _passes(self, inputs: dict) -> Iterator[tuple[Tensor, bool]]:
        """Yield each pass's output at the scale's size, and whether it is mirrored."""
        image, name = inputs["image"], inputs.get("file_name", "an image")
        for box in self.boxes:
            scaled = image if box is None else _resize_image(image, box)
            views = [False, True] if self.flip else [False]
            shape = len(views), self.num_channels, *scaled.shape[-2:]
            together = fits_canvas(shape, self.canvas_gib)
            for batch in [views] if together else [[view] for view in views]:
                images = [scaled.flip(-1) if mirrored else scaled for mirrored in batch]
                outputs = self._outputs(images, box, name)
                for mirrored in batch:
                    yield outputs.pop(0), mirrored

    def _outputs(
        self, images: Sequence[Tensor], box: tuple[int, int] | None, name: str
    ) -> list[Tensor]:
        """Predict views of an image at one scale: outputs (K, h, w) or (h, w)."""
        try:
            outputs = self.model([{"image": image} for image in images])
        except InputError as error:
            height, width = images[0].shape[-2:]
            source = "" if box is None else f" (TEST.AUG.MIN_SIZES {box[1]})"
            raise InputError(
                f"{name} of {height}x{width} pixels (height x width){source} cannot be "
                f"predicted: {error}"
            ) from error
        return [output[self.map_name] for output in outputs]


def _task(model: nn.Module) -> str:
    return model.task if isinstance(model, DenseModel) else "sem_seg"


def _boxes(cfg: CfgNode) -> list[tuple[int, int] | None]:
    """Read the box (long side, short side) of every scale; None for the image's own size."""
    aug = cfg.TEST.AUG
    short_sides, long_sides = list(aug.MIN_SIZES), list(aug.MAX_SIZES)
    # Detectron2's default is meant for detectors.
    if tuple(short_sides) == tuple(get_cfg().TEST.AUG.MIN_SIZES):
        short_sides, long_sides = [cfg.INPUT.MIN_SIZE_TEST], [cfg.INPUT.MAX_SIZE_TEST]
    long_sides = long_sides or [aug.MAX_SIZE] * len(short_sides)
    if not short_sides:
        raise InputError("TEST.AUG.MIN_SIZES is empty, expected at least one scale")
    if len(long_sides) != len(short_sides):
        raise InputError(
            f"TEST.AUG.MAX_SIZES has {len(long_sides)} sizes, TEST.AUG.MIN_SIZES {len(short_sides)}"
        )
    boxes = list(zip(long_sides, short_sides, strict=True))
    for long, short in boxes:
        if short < 0 or (short and long < short):
            raise InputError(
                f"TEST.AUG: a short side of {short} and a long side of {long} pixels make no box "
                "that images fit (MIN_SIZES, with MAX_SIZES or MAX_SIZE)"
            )
    return [box if box[1] else None for box in boxes]


def _resize_image(image: Tensor, box: tuple[int, int]) -> Tensor:
    """Fit an image (C, H, W) of any number type into a box as mappers do."""
    pixels = np.ascontiguousarray(image.cpu().numpy().transpose(1, 2, 0))
    pixels = ResizeToBox(*box).get_transform(pixels).apply_image(pixels)
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))
