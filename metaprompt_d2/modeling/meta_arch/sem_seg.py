"""`SlidingWindowSegmentor`: any backbone, any semantic segmentation head, whole or in windows."""

from collections.abc import Sequence

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import (
    META_ARCH_REGISTRY,
    Backbone,
    build_backbone,
    build_sem_seg_head,
)
from detectron2.structures import ImageList
from torch import Tensor, nn
from torch.nn import functional as F

from ...utils.errors import InputError
from ...utils.precision import amp_dtype, autocast
from ..backbone import MetaPromptBackbone
from ..sliding_window import predict_in_windows, resize_map, sliding_windows
from .batching import equal_sizes, padded_for

__all__ = ["SlidingWindowSegmentor"]


@META_ARCH_REGISTRY.register()
class SlidingWindowSegmentor(nn.Module):
    """Detectron2's semantic segmentor with evaluation in overlapping windows.

    In windows, logits are averaged where windows overlap and then resized to the image file's
    size (method section 3.5). Windows are padded only if the backbone asks for it.

    Memory of an image: its K x H x W logits once, in the main memory where they are larger than
    `canvas_gib`; if the image was resized, those at its own size as well; and the logits of one
    batch of windows.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        sem_seg_head: nn.Module,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        window_size: tuple[int, int] | None = None,
        window_stride: tuple[int, int] | None = None,
        window_batch_size: int = 4,
        share_encoder: bool = False,
        canvas_gib: float = 4.0,
        inference_dtype: torch.dtype | None = None,
    ):
        """
        Args:
            backbone: Detectron2's backbone interface.
            sem_seg_head: Detectron2's interface of a semantic segmentation head. Its `layers`
                method, which Detectron2's own heads have too, gives logits before upsampling.
            pixel_mean, pixel_std: per channel, for (image - mean) / std.
            window_size, window_stride: (height, width); None evaluates whole images.
            window_batch_size: windows that pass through the model at once.
            share_encoder: encode the whole image once and cut windows from its latent; for
                `MetaPromptBackbone`. Windows then begin at multiples of the latent's stride.
            canvas_gib: larger outputs lie in the main memory, not on the model's device.
            inference_dtype: autocast to it in inference; None: as it is.

        Raises:
            InputError: an encoder to share that isn't there, or windows that cut latent pixels.
        """
        super().__init__()
        if share_encoder:
            _check_shared_encoder(backbone, window_size)
        self.backbone = backbone
        self.sem_seg_head = sem_seg_head
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)
        self.window_size = window_size
        self.window_stride = window_stride
        self.window_batch_size = window_batch_size
        self.share_encoder = share_encoder
        self.inference_dtype = inference_dtype
        self.canvas_gib = canvas_gib

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        backbone = build_backbone(cfg)
        arguments = {
            "backbone": backbone,
            "sem_seg_head": build_sem_seg_head(cfg, backbone.output_shape()),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "inference_dtype": amp_dtype(cfg.TEST.AMP, "TEST.AMP"),
            "canvas_gib": cfg.TEST.CANVAS_GIB,
        }
        windows = cfg.TEST.SLIDING_WINDOW
        if windows.BATCH_SIZE < 1:
            raise InputError(
                f"TEST.SLIDING_WINDOW.BATCH_SIZE is {windows.BATCH_SIZE}, expected at least 1"
            )
        arguments["window_batch_size"] = windows.BATCH_SIZE
        if windows.ENABLED:
            _check_windows(windows)
            arguments["window_size"] = tuple(windows.SIZE)
            arguments["window_stride"] = tuple(windows.STRIDE)
            arguments["share_encoder"] = windows.SHARE_ENCODER
        return arguments

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """
        Args:
            batched_inputs: one dict an image, with

                * "image": (C, H, W) in the format of `INPUT.FORMAT`, 0..255;
                * "sem_seg": (H, W) labels, in training;
                * "height", "width": size of the output, by default the image's own.

        Returns:
            in training the head's losses; in inference one dict an image with "sem_seg": logits
            (K, height, width). Windows of images of one size pass through the model together.
        """
        images = [self._normalize(inputs["image"]) for inputs in batched_inputs]
        if self.training:
            return self._losses(images, batched_inputs)
        outputs: list[dict[str, Tensor]] = [{} for _ in images]
        for indices in equal_sizes(images):
            logits = self._predict(torch.stack([images[index] for index in indices]))
            for index, image_logits in zip(indices, logits, strict=True):
                inputs = batched_inputs[index]
                height, width = logits.shape[-2:]
                size = (inputs.get("height", height), inputs.get("width", width))
                outputs[index]["sem_seg"] = resize_map(image_logits, size, self.canvas_gib)
        return outputs

    def _normalize(self, image: Tensor) -> Tensor:
        return (image.to(self.device, non_blocking=True) - self.pixel_mean) / self.pixel_std

    def _losses(self, images: list[Tensor], batched_inputs: list[dict]) -> dict[str, Tensor]:
        divisibility = self.backbone.size_divisibility
        constraints = self.backbone.padding_constraints
        labels = [inputs["sem_seg"].to(self.device, non_blocking=True) for inputs in batched_inputs]
        batch = ImageList.from_tensors(images, divisibility, padding_constraints=constraints)
        targets = ImageList.from_tensors(
            labels, divisibility, self.sem_seg_head.ignore_value, constraints
        )
        _, losses = self.sem_seg_head(self.backbone(batch.tensor), targets.tensor)
        return losses

    def _predict(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> logits (N, K, H, W)."""
        if self.share_encoder:
            return self._predict_from_one_latent(images)
        height, width = images.shape[-2:]
        windows = [(slice(0, height), slice(0, width))]
        if self.window_size is not None:
            windows = sliding_windows((height, width), self.window_size, self.window_stride)
        return predict_in_windows(
            self.predict_batch,
            images,
            windows,
            batch_size=self.window_batch_size,
            canvas_gib=self.canvas_gib,
        )

    def predict_batch(self, windows: Tensor) -> Tensor:
        """Normalised windows (B, C, h, w) -> logits (B, K, h, w), in one pass, traceable."""
        padded = padded_for(self.backbone, windows)
        with autocast(self.device, self.inference_dtype):
            logits = self._logits(self.backbone(padded))
        logits = _resize(logits, padded.shape[-2:])
        return logits[..., : windows.shape[-2], : windows.shape[-1]]

    def _predict_from_one_latent(self, images: Tensor) -> Tensor:
        """As `_predict`; the encoder sees the whole image, so that its norms and attention do."""
        stride = self.backbone.latent_encoder.stride
        padded = padded_for(self.backbone, images, stride)
        steps = [step // stride * stride for step in self.window_stride]
        windows = sliding_windows(tuple(padded.shape[-2:]), self.window_size, steps)
        with autocast(self.device, self.inference_dtype):
            latent = torch.cat([self.backbone.encode(image[None]) for image in padded])

        def predict(latents: Tensor) -> Tensor:
            with autocast(self.device, self.inference_dtype):
                logits = self._logits(self.backbone.features(latents))
            return _resize(logits, [side * stride for side in latents.shape[-2:]])

        logits = predict_in_windows(
            predict,
            latent,
            windows,
            batch_size=self.window_batch_size,
            canvas_gib=self.canvas_gib,
            stride=stride,
        )
        return logits[..., : images.shape[-2], : images.shape[-1]]

    def _logits(self, features: dict[str, Tensor]) -> Tensor:
        """The head's, before upsampling where it tells; averages and softmax want float32."""
        if hasattr(self.sem_seg_head, "layers"):
            logits = self.sem_seg_head.layers(features)
        else:
            logits, _ = self.sem_seg_head(features)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))


def _resize(logits: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(size) == tuple(logits.shape[-2:]):
        return logits
    return F.interpolate(logits, size=tuple(size), mode="bilinear", align_corners=False)


def _check_windows(windows: CfgNode) -> None:
    for key in ("SIZE", "STRIDE"):
        value = windows[key]
        if len(value) != 2 or min(value) < 1:
            raise InputError(
                f"TEST.SLIDING_WINDOW.{key} is {value}, expected (height, width) of at least 1"
            )
    if any(stride > size for stride, size in zip(windows.STRIDE, windows.SIZE, strict=True)):
        raise InputError(
            f"TEST.SLIDING_WINDOW.STRIDE {windows.STRIDE} exceeds SIZE {windows.SIZE}: pixels "
            "between the windows would have no prediction"
        )


def _check_shared_encoder(backbone: Backbone, window_size: tuple[int, int] | None) -> None:
    if not isinstance(backbone, MetaPromptBackbone) or backbone.size_divisibility:
        raise InputError(
            "TEST.SLIDING_WINDOW.SHARE_ENCODER needs a MetaPromptBackbone that takes any size "
            "(MODEL.META_PROMPT.REARRANGE)"
        )
    stride = backbone.latent_encoder.stride
    if window_size is None or any(side % stride for side in window_size):
        raise InputError(
            f"TEST.SLIDING_WINDOW.SHARE_ENCODER needs windows, with a SIZE of multiples of "
            f"{stride}; it is {window_size}"
        )
