"""`SlidingWindowSegmentor`: semantic segmentation of whole images or in sliding windows."""

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, build_sem_seg_head
from torch import Tensor, nn

from ...layers import resize
from ...utils.errors import InputError
from ..backbone import MetaPromptBackbone
from ..sliding_window import Window, predict_in_windows, sliding_windows
from .base import DenseModel, pad_to_multiple


@runtime_checkable
class LayersHead(Protocol):
    """A semantic segmentation head that can give its logits before it resizes them.

    Detectron2's own heads and `UPerHead` have this method. With it, padding is cut off and windows
    are averaged after a single resize.
    """

    def layers(self, features: Mapping[str, Tensor]) -> Tensor:
        """Predict logits (N, K, h, w) of any size from a backbone's features."""


@META_ARCH_REGISTRY.register()
class SlidingWindowSegmentor(DenseModel):
    """Detectron2's semantic segmentor, evaluated in overlapping windows.

    Logits (K, height, width) are averaged where windows overlap and then resized to the size of the
    image file (docs/method.md#segmentation-inference). Windows are padded only if the backbone
    needs it.

    Memory of an image: its K x H x W logits once, in main memory where they are larger than
    `canvas_gib`; if the image was resized, also those at the resized image's size; and the logits
    of one batch of windows.
    """

    task = "sem_seg"

    sem_seg_head: Any

    @configurable
    def __init__(
        self,
        *,
        sem_seg_head: nn.Module,
        window_size: tuple[int, int] | None = None,
        window_stride: tuple[int, int] | None = None,
        share_encoder: bool = False,
        **shared: Any,
    ):
        """
        Args:
            sem_seg_head: Semantic segmentation head with Detectron2's interface; see `LayersHead`
                for an optional method.
            window_size, window_stride: Sizes as (height, width); None for whole images.
            share_encoder: Whether to encode the whole image once and cut windows from its latent.
                This needs a `MetaPromptBackbone`. Windows then start at multiples of the latent's
                stride.
            shared: Arguments of `DenseModel`.

        Raises:
            InputError: The windows leave pixels out, or the encoder cannot be shared.
        """
        super().__init__(**shared)
        if window_size is not None:
            _check_windows(window_size, window_stride)
        if share_encoder:
            _check_shared_encoder(self.backbone, window_size)
        self.sem_seg_head = sem_seg_head
        self.window_size = window_size
        self.window_stride = window_stride
        self.share_encoder = share_encoder

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        arguments = super().from_config(cfg)
        arguments["sem_seg_head"] = build_sem_seg_head(cfg, arguments["backbone"].output_shape())
        windows = cfg.TEST.SLIDING_WINDOW
        if windows.ENABLED:
            arguments["window_size"] = tuple(windows.SIZE)
            arguments["window_stride"] = tuple(windows.STRIDE)
            arguments["share_encoder"] = windows.SHARE_ENCODER
        return arguments

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Compute losses in training, and logits in inference; see `DenseModel`."""
        if not self.training:
            return [{"sem_seg": logits} for logits in self._predict_inputs(batched_inputs)]
        images, labels = self._training_batch(batched_inputs, self.sem_seg_head.ignore_value)
        return self.sem_seg_head(self.backbone(images), labels)[1]

    def predict_batch(self, images: Tensor) -> Tensor:
        """Predict logits (N, K, H, W) from normalized images (N, C, H, W) in one pass."""
        padded = self._pad(images)
        height, width = padded.shape[-2:]
        with self._autocast():
            logits = self._maps(self.backbone(padded), (height, width))
        return logits[..., : images.shape[-2], : images.shape[-1]]

    def _windows(self, image_size: tuple[int, int]) -> list[Window]:
        if self.window_size is None or self.window_stride is None:
            return super()._windows(image_size)
        return sliding_windows(image_size, self.window_size, self.window_stride)

    def _predict(self, images: Tensor) -> Tensor:
        if not self.share_encoder or self.window_size is None or self.window_stride is None:
            return super()._predict(images)
        # The norms and the attention of the encoder see the whole image.
        stride = self.backbone.latent_encoder.stride
        padded = pad_to_multiple(images, stride)
        with self._autocast():
            latent = torch.cat([self.backbone.encode(image[None]) for image in padded])

        def predict(latents: Tensor) -> Tensor:
            height, width = (side * stride for side in latents.shape[-2:])
            with self._autocast():
                return self._maps(self.backbone.features(latents), (height, width))

        size, step = (
            (max(rows // stride, 1), max(columns // stride, 1))
            for rows, columns in (self.window_size, self.window_stride)
        )
        height, width = latent.shape[-2:]
        logits = predict_in_windows(
            predict,
            latent,
            sliding_windows((height, width), size, step),
            batch_size=self.window_batch_size,
            canvas_gib=self.canvas_gib,
            stride=stride,
        )
        return logits[..., : images.shape[-2], : images.shape[-1]]

    def _maps(self, features: dict[str, Tensor], size: tuple[int, int]) -> Tensor:
        """Compute logits from features, at least float32 for averages, resized to a size."""
        head = self.sem_seg_head
        # The class is asked, because a module named `layers` would be no method.
        if issubclass(type(head), LayersHead):
            logits = head.layers(features)
        else:
            logits, _ = head(features)
        return resize(logits.to(torch.promote_types(logits.dtype, torch.float32)), size)


def _check_windows(size: tuple[int, int], stride: tuple[int, int] | None) -> None:
    if stride is None or any(step > side for step, side in zip(stride, size, strict=True)):
        raise InputError(
            f"window_stride {stride} exceeds window_size {size}: pixels between the windows would "
            "have no prediction"
        )


def _check_shared_encoder(backbone: nn.Module, window_size: tuple[int, int] | None) -> None:
    if not isinstance(backbone, MetaPromptBackbone) or backbone.size_divisibility:
        raise InputError(
            "share_encoder needs a MetaPromptBackbone that takes any size, which one without "
            "rearrangement doesn't"
        )
    stride = backbone.latent_encoder.stride
    if window_size is None or any(side % stride for side in window_size):
        raise InputError(
            f"share_encoder needs a window_size of multiples of {stride}; it is {window_size}"
        )
