"""Bases of the meta-architectures: normalization, padding, windows and the size of outputs."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any, ClassVar

import torch
from detectron2.config import CfgNode
from detectron2.modeling import Backbone, build_backbone
from detectron2.structures import ImageList
from torch import Tensor, nn
from torch.nn import functional as F

from ...data import MAPPERS_OF_TASKS
from ...utils.errors import InputError
from ...utils.precision import amp_dtype, autocast
from ..sliding_window import Window, predict_in_windows, resize_map


class TaskModel(nn.Module, ABC):
    """Base of the meta-architectures: one task on a backbone.

    A subclass names its `task`. The task chooses the mapper where INPUT.DATASET_MAPPER_NAME is
    empty, and tells test-time augmentation, export and the tools what the model predicts.
    """

    task: ClassVar[str]

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        backbone: Backbone,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        inference_dtype: torch.dtype | None = None,
    ):
        """
        Args:
            backbone: Any backbone of Detectron2.
            pixel_mean, pixel_std: Values per channel for (image - mean) / std.
            inference_dtype: Type of autocast in inference; None for no autocast.
        """
        super().__init__()
        self.backbone = backbone
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)
        self.inference_dtype = inference_dtype
        # What the backbone takes; subclasses may change it.
        self.size_divisibility = backbone.size_divisibility
        self.padding_constraints = backbone.padding_constraints

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Build the arguments that all tasks share."""
        return {
            "backbone": build_backbone(cfg),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "inference_dtype": amp_dtype(cfg.TEST.AMP, "TEST.AMP"),
        }

    @property
    def device(self) -> torch.device:
        """The device of the pixel statistics, to which inputs are moved."""
        return self.pixel_mean.device

    @abstractmethod
    def predict_batch(self, images: Tensor) -> Tensor:
        """Predict maps (N, K, h, w) from normalized images (N, C, H, W) in one pass.

        Exported programs are traces of this.
        """

    def _to_device(self, values: Tensor) -> Tensor:
        return values.to(self.device, non_blocking=True)

    def _training_inputs(self, batched_inputs: list[dict], name: str) -> list[Tensor]:
        """Move an entry of all dicts of a training batch to the device.

        Raises:
            InputError: The loader's mapper, such as Detectron2's default, doesn't make it.
        """
        if missing := [inputs for inputs in batched_inputs if name not in inputs]:
            mapper = MAPPERS_OF_TASKS.get(self.task, f"a mapper of the task {self.task!r}")
            raise InputError(
                f"training inputs of {type(self).__name__} lack {name!r}; they have "
                f"{sorted(missing[0])}. The training loader needs {mapper}, which "
                "metaprompt_d2.data.build_mapper(cfg, is_train=True) builds"
            )
        return [self._to_device(inputs[name]) for inputs in batched_inputs]

    def _normalize(self, image: Tensor) -> Tensor:
        return (self._to_device(image) - self.pixel_mean) / self.pixel_std

    def _autocast(self) -> AbstractContextManager:
        return autocast(self.device, self.inference_dtype)

    def _stack(self, maps: list[Tensor], fill: float = 0.0) -> Tensor:
        """Stack maps, padded at the right and the bottom to one size that the backbone takes."""
        divisibility, constraints = self.size_divisibility, self.padding_constraints
        return ImageList.from_tensors(maps, divisibility, fill, constraints).tensor

    def _pad(self, images: Tensor) -> Tensor:
        """Pad images of one size as `_stack` does, but so that it can be traced."""
        if self.padding_constraints.get("square_size", 0) > 0:
            return self._stack(list(images))
        return pad_to_multiple(images, self.size_divisibility)


class DenseModel(TaskModel):
    """Base of the models that predict one map for an image, at the size of its file.

    A subclass implements `forward` and `predict_batch`, and `_windows` if it predicts in windows.
    The map's name among the outputs is the task, unless the subclass overrides `map_name`.

    `forward` takes one dict for each image, with "image": (C, H, W), 0..255, in the format
    INPUT.FORMAT; in training the target (H, W) under the name of the task; and "height" and
    "width", the size of the output (default: the image's). It returns the head's losses in
    training, and in inference one dict for each image, with the map under the name of the task.
    """

    def __init__(
        self,
        *,
        window_batch_size: int = 4,
        flip: bool = False,
        canvas_gib: float = 4.0,
        **shared: Any,
    ):
        """
        Args:
            window_batch_size: Windows that pass through the model at once.
            flip: Whether to average with the prediction for the mirror image.
            canvas_gib: Size in GiB above which outputs are kept in main memory and not on the
                model's device.
            shared: Arguments of `TaskModel`.

        Raises:
            InputError: The batch size is less than 1.
        """
        super().__init__(**shared)
        if window_batch_size < 1:
            raise InputError(f"window_batch_size is {window_batch_size}, expected at least 1")
        self.window_batch_size = window_batch_size
        self.flip = flip
        self.canvas_gib = canvas_gib

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        """Build the arguments that all dense tasks share."""
        return super().from_config(cfg) | {
            "window_batch_size": cfg.TEST.SLIDING_WINDOW.BATCH_SIZE,
            "canvas_gib": cfg.TEST.CANVAS_GIB,
        }

    @property
    def map_name(self) -> str:
        """The name of the map among the outputs."""
        return self.task

    def _training_batch(self, batched_inputs: list[dict], fill: float) -> tuple[Tensor, Tensor]:
        """Stack normalized images (N, C, H, W) and their targets (N, H, W), padded with `fill`."""
        images = [self._normalize(inputs["image"]) for inputs in batched_inputs]
        targets = self._training_inputs(batched_inputs, self.task)
        return self._stack(images), self._stack(targets, fill)

    def _predict_inputs(self, batched_inputs: list[dict]) -> list[Tensor]:
        """Predict maps (K, height, width); images of one size pass through the model together."""
        images = [self._normalize(inputs["image"]) for inputs in batched_inputs]
        results: dict[int, Tensor] = {}
        for shape in dict.fromkeys(image.shape for image in images):
            indices = [index for index, image in enumerate(images) if image.shape == shape]
            maps = self._predict(torch.stack([images[index] for index in indices]))
            for index, image_map in zip(indices, maps, strict=True):
                inputs, (height, width) = batched_inputs[index], image_map.shape[-2:]
                size = (inputs.get("height", height), inputs.get("width", width))
                results[index] = resize_map(image_map, size, self.canvas_gib)
        return [results[index] for index in range(len(images))]

    def _windows(self, image_size: tuple[int, int]) -> list[Window]:
        """Place the windows of an image of a size (height, width)."""
        height, width = image_size
        return [(slice(0, height), slice(0, width))]

    def _predict(self, images: Tensor) -> Tensor:
        """Predict maps (N, K, H, W) of normalized images (N, C, H, W)."""
        height, width = images.shape[-2:]
        return predict_in_windows(
            self.predict_batch,
            images,
            self._windows((height, width)),
            batch_size=self.window_batch_size,
            flip=self.flip,
            canvas_gib=self.canvas_gib,
        )


def pad_to_multiple(images: Tensor, multiple: int) -> Tensor:
    """Pad images (N, C, H, W) with 0 at the right and the bottom, to multiples of a number."""
    if multiple <= 1:
        return images
    height, width = images.shape[-2:]
    return F.pad(images, (0, -width % multiple, 0, -height % multiple))
