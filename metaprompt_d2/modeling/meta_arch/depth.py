"""`DepthEstimator`: any backbone, any depth head, whole images or shifted windows and mirrored."""

from collections.abc import Sequence

import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, build_backbone
from detectron2.structures import ImageList
from torch import Tensor, nn
from torch.nn import functional as F

from ...utils.errors import InputError
from ...utils.precision import amp_dtype, autocast
from ..heads import build_depth_head
from ..sliding_window import predict_in_windows, shifted_windows
from .batching import equal_sizes, padded_for

__all__ = ["DepthEstimator"]

# The coarsest stride of Stable Diffusion's VAE and UNet; images are resized to its multiples.
_GRID = 64


@META_ARCH_REGISTRY.register()
class DepthEstimator(nn.Module):
    """Depth of every pixel in metres.

    The official recipe resizes images to multiples of 64 pixels before the backbone, and predicts
    as the average of shifted square windows and their mirror images (method sections 2.2, 2.7).
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        depth_head: nn.Module,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        resize_scale: int = 1,
        num_windows: int = 0,
        cover_all: bool = True,
        flip: bool = False,
        window_batch_size: int = 4,
        inference_dtype: torch.dtype | None = None,
    ):
        """
        Args:
            backbone: Detectron2's backbone interface.
            depth_head: with the interface of `DeconvDepthHead`.
            pixel_mean, pixel_std: per channel, for (image - mean) / std.
            resize_scale: r; images of h x w are resized to (h // 64 + r) * 64 by
                (w // 64 + r) * 64 before the backbone. 0: not resized, but padded to the
                backbone's size divisibility.
            num_windows: square windows shifted along the longer side; 0 predicts whole images.
            cover_all: add windows where these leave pixels uncovered (NaN otherwise).
            flip: average with the mirror image's prediction.
            window_batch_size: windows that pass through the model at once.
            inference_dtype: autocast to it in inference; None: as it is.

        Raises:
            InputError: images resized to what the backbone cannot take.
        """
        super().__init__()
        if resize_scale > 0 and backbone.size_divisibility and _GRID % backbone.size_divisibility:
            raise InputError(
                f"the backbone takes multiples of {backbone.size_divisibility} pixels, to which "
                f"images are not resized; set MODEL.DEPTH_HEAD.RESIZE_SCALE to 0"
            )
        self.backbone = backbone
        self.depth_head = depth_head
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)
        self.resize_scale = resize_scale
        self.num_windows = num_windows
        self.cover_all = cover_all
        self.flip = flip
        self.window_batch_size = window_batch_size
        self.inference_dtype = inference_dtype

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        for key, value, least in (
            ("MODEL.DEPTH_HEAD.RESIZE_SCALE", cfg.MODEL.DEPTH_HEAD.RESIZE_SCALE, 0),
            ("TEST.SHIFTED_WINDOWS.COUNT", cfg.TEST.SHIFTED_WINDOWS.COUNT, 0),
            ("TEST.SLIDING_WINDOW.BATCH_SIZE", cfg.TEST.SLIDING_WINDOW.BATCH_SIZE, 1),
        ):
            if value < least:
                raise InputError(f"{key} is {value}, expected at least {least}")
        backbone = build_backbone(cfg)
        return {
            "backbone": backbone,
            "depth_head": build_depth_head(cfg, backbone.output_shape()),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "resize_scale": cfg.MODEL.DEPTH_HEAD.RESIZE_SCALE,
            "num_windows": cfg.TEST.SHIFTED_WINDOWS.COUNT,
            "cover_all": cfg.TEST.SHIFTED_WINDOWS.COVER_ALL,
            "flip": cfg.TEST.AUG.ENABLED and cfg.TEST.AUG.FLIP,
            "window_batch_size": cfg.TEST.SLIDING_WINDOW.BATCH_SIZE,
            "inference_dtype": amp_dtype(cfg.TEST.AMP, "TEST.AMP"),
        }

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """
        Args:
            batched_inputs: one dict an image, with

                * "image": (C, H, W) in the format of `INPUT.FORMAT`, 0..255;
                * "depth": (H, W) metres, 0 = no ground truth, in training;
                * "height", "width": size of the output, by default the image's own.

        Returns:
            in training the head's losses; in inference one dict an image with "depth":
            (height, width) in metres. Images of one size pass through the model together.
        """
        images = [self._normalize(inputs["image"]) for inputs in batched_inputs]
        if self.training:
            return self._losses(images, batched_inputs)
        outputs: list[dict[str, Tensor]] = [{} for _ in images]
        for indices in equal_sizes(images):
            depths = self._predict(torch.stack([images[index] for index in indices]))
            for index, depth in zip(indices, depths, strict=True):
                inputs = batched_inputs[index]
                height, width = depth.shape[-2:]
                size = (inputs.get("height", height), inputs.get("width", width))
                outputs[index]["depth"] = _resize(depth[None], size)[0, 0]
        return outputs

    def _normalize(self, image: Tensor) -> Tensor:
        return (image.to(self.device, non_blocking=True) - self.pixel_mean) / self.pixel_std

    def _losses(self, images: list[Tensor], batched_inputs: list[dict]) -> dict[str, Tensor]:
        depths = [inputs["depth"].to(self.device, non_blocking=True) for inputs in batched_inputs]
        batch = self._padded(images)
        _, losses = self.depth_head(self._features(batch), batch.shape[-2:], self._padded(depths))
        return losses

    def _predict(self, images: Tensor) -> Tensor:
        """(N, C, H, W) -> depth (N, 1, H, W)."""
        height, width = images.shape[-2:]
        windows = [(slice(0, height), slice(0, width))]
        if self.num_windows > 0:
            windows = shifted_windows((height, width), self.num_windows, cover_all=self.cover_all)
        return predict_in_windows(
            self.predict_batch,
            images,
            windows,
            batch_size=self.window_batch_size,
            flip=self.flip,
        )

    def predict_batch(self, windows: Tensor) -> Tensor:
        """Normalised windows (B, C, h, w) -> depth (B, 1, h, w), in one pass, traceable."""
        padded = windows if self.resize_scale > 0 else padded_for(self.backbone, windows)
        with autocast(self.device, self.inference_dtype):
            depth, _ = self.depth_head(self._features(padded), padded.shape[-2:])
        return depth[..., : windows.shape[-2], : windows.shape[-1]]

    def _padded(self, maps: list[Tensor]) -> Tensor:
        """One batch of maps, filled up with 0 to one size, and to what an unresized one needs."""
        if self.resize_scale > 0:
            return ImageList.from_tensors(maps).tensor
        return ImageList.from_tensors(
            maps,
            self.backbone.size_divisibility,
            padding_constraints=self.backbone.padding_constraints,
        ).tensor

    def _features(self, images: Tensor) -> dict[str, Tensor]:
        if self.resize_scale > 0:
            size = [(side // _GRID + self.resize_scale) * _GRID for side in images.shape[-2:]]
            images = _resize(images, size)
        return self.backbone(images)


def _resize(x: Tensor, size: Sequence[int]) -> Tensor:
    if tuple(size) == tuple(x.shape[-2:]):
        return x
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)
