"""`DepthEstimator`: depth of whole images or of shifted windows and their mirror images."""

from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from torch import Tensor, nn

from ...layers import resize
from ...utils.errors import InputError
from ..heads.build import build_depth_head
from ..sliding_window import Window, shifted_windows
from .base import DenseModel

# The coarsest stride of Stable Diffusion's VAE and UNet; images are resized to its multiples.
_GRID = 64


@META_ARCH_REGISTRY.register()
class DepthEstimator(DenseModel):
    """Depth (height, width) in meters; targets of 0 have no ground truth.

    The official recipe resizes images to multiples of 64 pixels before the backbone, and averages
    the predictions for shifted square windows and their mirror images
    (docs/method.md#depth-test-protocol).
    """

    task = "depth"

    @configurable
    def __init__(
        self,
        *,
        depth_head: nn.Module,
        resize_scale: int = 1,
        num_windows: int = 0,
        cover_all: bool = True,
        **shared: Any,
    ):
        """
        Args:
            depth_head: Depth head; see `DEPTH_HEADS_REGISTRY`.
            resize_scale: Number r: images of h x w pixels are resized to (h // 64 + r) * 64 by
                (w // 64 + r) * 64 before the backbone. With 0 they are padded to the backbone's
                size divisibility instead.
            num_windows: Square windows, shifted along the longer side; 0 for whole images.
            cover_all: Whether to add windows where these leave pixels uncovered (NaN otherwise).
            shared: Arguments of `DenseModel`.

        Raises:
            InputError: A number is too small, or images are resized to what the backbone doesn't
                take.
        """
        super().__init__(**shared)
        for name, value in (("resize_scale", resize_scale), ("num_windows", num_windows)):
            if value < 0:
                raise InputError(f"{name} is {value}, expected at least 0")
        if resize_scale > 0:
            if self.size_divisibility and _GRID % self.size_divisibility:
                raise InputError(
                    f"the backbone takes multiples of {self.size_divisibility} pixels, to "
                    "which images are not resized; set resize_scale to 0"
                )
            self.size_divisibility, self.padding_constraints = 0, {}  # resized, not padded
        self.depth_head = depth_head
        self.resize_scale = resize_scale
        self.num_windows = num_windows
        self.cover_all = cover_all

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        arguments = super().from_config(cfg)
        return arguments | {
            "depth_head": build_depth_head(cfg, arguments["backbone"].output_shape()),
            "resize_scale": cfg.MODEL.DEPTH_HEAD.RESIZE_SCALE,
            "num_windows": cfg.TEST.SHIFTED_WINDOWS.COUNT,
            "cover_all": cfg.TEST.SHIFTED_WINDOWS.COVER_ALL,
            "flip": cfg.TEST.AUG.ENABLED and cfg.TEST.AUG.FLIP,
        }

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict[str, Tensor]]:
        """Compute losses in training, and depth in inference; see `DenseModel`."""
        if not self.training:
            return [{"depth": depth[0]} for depth in self._predict_inputs(batched_inputs)]
        images, depths = self._training_batch(batched_inputs, fill=0)
        return self.depth_head(self._features(images), images.shape[-2:], depths)[1]

    def predict_batch(self, images: Tensor) -> Tensor:
        """Predict depth (N, 1, H, W) from normalized images (N, C, H, W) in one pass."""
        padded = self._pad(images)
        with self._autocast():
            depth, _ = self.depth_head(self._features(padded), padded.shape[-2:])
        return depth[..., : images.shape[-2], : images.shape[-1]]

    def _windows(self, image_size: tuple[int, int]) -> list[Window]:
        if self.num_windows == 0:
            return super()._windows(image_size)
        return shifted_windows(image_size, self.num_windows, cover_all=self.cover_all)

    def _features(self, images: Tensor) -> dict[str, Tensor]:
        if self.resize_scale > 0:
            size = [(side // _GRID + self.resize_scale) * _GRID for side in images.shape[-2:]]
            images = resize(images, size)
        return self.backbone(images)
