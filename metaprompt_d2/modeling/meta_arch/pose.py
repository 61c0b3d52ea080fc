"""`TopDownPoseEstimator`: any backbone, any heatmap head; people's crops in, `Instances` out."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, Backbone, build_backbone
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

from ...codecs import FLIP_INDICES, UDPHeatmapCodec, average_with_mirrored, box_to_crop
from ...utils.errors import InputError
from ...utils.precision import amp_dtype, autocast
from ..heads import build_heatmap_head
from ..person_crops import cut_crops, given_boxes
from ..person_detector import PersonDetector
from .batching import padded_for

__all__ = ["TopDownPoseEstimator"]


@dataclass(frozen=True)
class _People:
    """The people of one image.

    Attributes:
        crops: (K, C, h, w), normalised.
        centers, extents: (K, 2) of the crops in the image, x then y, in pixels.
        boxes: (K, 4) corners in the image's pixels.
        scores: (K,) of the boxes.
        image_size: (height, width) in which these pixels count.
        output_size: (height, width) in which the result is to count.
    """

    crops: Tensor
    centers: Tensor
    extents: Tensor
    boxes: Tensor
    scores: Tensor
    image_size: tuple[int, int]
    output_size: tuple[int, int]


@META_ARCH_REGISTRY.register()
class TopDownPoseEstimator(nn.Module):
    """Keypoints of people, each seen in a crop of its own.

    ViTPose's procedure (method section 5.2): heatmaps averaged with those of the mirrored crop,
    decoded with sub-pixel accuracy on UDP's coordinates.
    """

    @configurable
    def __init__(
        self,
        *,
        backbone: Backbone,
        heatmap_head: nn.Module,
        pixel_mean: Sequence[float],
        pixel_std: Sequence[float],
        codec: UDPHeatmapCodec,
        padding: float = 1.25,
        size_divisibility: int = 0,
        flip: bool = True,
        batch_size: int = 64,
        keep_heatmaps: bool = False,
        inference_dtype: torch.dtype | None = None,
        detector: Callable[[Tensor], tuple[Boxes, Tensor]] | None = None,
    ):
        """
        Args:
            backbone: Detectron2's backbone interface.
            heatmap_head: with the interface of `DeconvHeatmapHead`.
            pixel_mean, pixel_std: per channel, for (image - mean) / std.
            codec: knows the sizes of crops and heatmaps, and decodes.
            padding: factor on people's boxes.
            size_divisibility: crops are padded to its multiples and those of the backbone's.
            flip: average with the mirrored crop's heatmaps.
            batch_size: crops that pass through the model at once; mirrored ones pass beside them.
            keep_heatmaps: return them.
            inference_dtype: autocast to it in inference; None: as it is.
            detector: finds people where an image comes without boxes: (C, H, W), 0..255, to boxes
                and scores. None: the whole image is one person.
        """
        super().__init__()
        self.backbone = backbone
        self.heatmap_head = heatmap_head
        self.register_buffer("pixel_mean", torch.tensor(pixel_mean).view(-1, 1, 1), False)
        self.register_buffer("pixel_std", torch.tensor(pixel_std).view(-1, 1, 1), False)
        self.codec = codec
        self.padding = padding
        self.size_divisibility = int(
            np.lcm(size_divisibility or 1, backbone.size_divisibility or 1)
        )
        self.flip = flip
        self.batch_size = batch_size
        self.keep_heatmaps = keep_heatmaps
        self.inference_dtype = inference_dtype
        self.detector = detector

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        for key, value, least in (
            ("MODEL.HEATMAP_HEAD.SIZE_DIVISIBILITY", cfg.MODEL.HEATMAP_HEAD.SIZE_DIVISIBILITY, 0),
            ("TEST.POSE.BATCH_SIZE", cfg.TEST.POSE.BATCH_SIZE, 1),
        ):
            if value < least:
                raise InputError(f"{key} is {value}, expected at least {least}")
        backbone = build_backbone(cfg)
        head = cfg.MODEL.HEATMAP_HEAD
        height, width = cfg.INPUT.PERSON_CROP.SIZE
        codec = UDPHeatmapCodec(
            (height, width),
            (height // head.STRIDE, width // head.STRIDE),
            sigma=head.SIGMA,
            blur_kernel=head.BLUR_KERNEL,
        )
        has_detector = bool(cfg.MODEL.PERSON_DETECTOR.CONFIG_FILE)
        return {
            "backbone": backbone,
            "heatmap_head": build_heatmap_head(cfg, backbone.output_shape()),
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
            "codec": codec,
            "padding": cfg.INPUT.PERSON_CROP.PADDING,
            "size_divisibility": head.SIZE_DIVISIBILITY,
            "flip": cfg.TEST.AUG.ENABLED and cfg.TEST.AUG.FLIP,
            "batch_size": cfg.TEST.POSE.BATCH_SIZE,
            "keep_heatmaps": cfg.TEST.POSE.HEATMAPS,
            "inference_dtype": amp_dtype(cfg.TEST.AMP, "TEST.AMP"),
            "detector": PersonDetector.of_config(cfg) if has_detector else None,
        }

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict[str, Instances]]:
        """
        Args:
            batched_inputs: either one dict a person, as `PoseMapper` gives them,

                * "image": (C, h, w), the crop, 0..255;
                * "heatmaps": (J, h', w') and "keypoint_weights": (J,), in training;
                * "crop_center", "crop_extent": (2,), in inference, and "person_box" (x, y, width,
                  height), "box_score", "height" and "width" of the file;

                or, in inference, one dict an image,

                * "image": (C, H, W) in the format of `INPUT.FORMAT`, 0..255;
                * "instances": with `pred_boxes`, `proposal_boxes` or `gt_boxes` in the pixels of
                  their own `image_size`, and `scores` (1 by default). Without it the detector finds
                  people, or the whole image is one;
                * "height", "width": size of the output, by default the image's own.

        Returns:
            in training the head's losses; in inference one dict an input with "instances": K
            people in pixels of (height, width), with `pred_boxes`, `scores` (of the boxes),
            `pred_classes` (0), `pred_keypoints` (K, 17, 3) of x, y, score in COCO's coordinates,
            `crop_areas` (K,) in square pixels, and, if asked for, `pred_keypoint_heatmaps`
            (K, 17, h', w') of the crops. Boxes without area are left out.

        Raises:
            InputError: `Instances` without boxes.
        """
        if self.training:
            return self._losses(batched_inputs)
        people = [self._people(inputs) for inputs in batched_inputs]
        heatmaps = self._predict(torch.cat([item.crops for item in people]))
        keypoints, scores = self.codec.decode(heatmaps)
        counts = [len(item.crops) for item in people]
        parts = (part.split(counts) for part in (keypoints, scores, heatmaps))
        return [
            {"instances": self._instances(*results)} for results in zip(people, *parts, strict=True)
        ]

    def _normalize(self, image: Tensor) -> Tensor:
        return (image.to(self.device, non_blocking=True) - self.pixel_mean) / self.pixel_std

    def _losses(self, people: list[dict]) -> dict[str, Tensor]:
        crops = torch.stack([self._normalize(inputs["image"]) for inputs in people])
        heatmaps, weights = (
            torch.stack([inputs[key].to(self.device, non_blocking=True) for inputs in people])
            for key in ("heatmaps", "keypoint_weights")
        )
        padded = padded_for(self.backbone, crops, self.size_divisibility)
        _, losses = self.heatmap_head(self.backbone(padded), padded.shape[-2:], (heatmaps, weights))
        return losses

    def _predict(self, crops: Tensor) -> Tensor:
        """(K, C, h, w) -> heatmaps (K, J, h', w')."""
        height, width = self.codec.heatmap_size
        if not len(crops):
            return crops.new_zeros(0, len(FLIP_INDICES), height, width)
        outputs = []
        for batch in crops.split(self.batch_size):
            views = torch.cat([batch, batch.flip(-1)]) if self.flip else batch
            heatmaps = self.predict_batch(views)
            if self.flip:
                heatmaps = average_with_mirrored(*heatmaps.chunk(2), FLIP_INDICES)
            outputs.append(heatmaps)
        return torch.cat(outputs)

    def predict_batch(self, crops: Tensor) -> Tensor:
        """Normalised crops (B, C, h, w) -> heatmaps (B, J, h', w'), in one pass, traceable."""
        height, width = self.codec.heatmap_size
        padded = padded_for(self.backbone, crops, self.size_divisibility)
        with autocast(self.device, self.inference_dtype):
            heatmaps, _ = self.heatmap_head(self.backbone(padded), padded.shape[-2:])
        return heatmaps[..., :height, :width]

    def _people(self, inputs: dict) -> _People:
        if "crop_center" in inputs:
            return self._mapped_person(inputs)
        image = inputs["image"].to(self.device, non_blocking=True)
        size = tuple(image.shape[-2:])
        boxes, scores = self._boxes(inputs, image)
        corners = boxes.cpu().double().numpy()
        sides = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
        height, width = self.codec.crop_size
        centers, extents = box_to_crop(sides, aspect=width / height, padding=self.padding)
        crops = cut_crops(
            self._normalize(image), centers, extents, (height, width), outside=self._black()
        )
        return _People(
            crops=crops,
            centers=self._tensor(centers),
            extents=self._tensor(extents),
            boxes=boxes,
            scores=scores,
            image_size=size,
            output_size=(inputs.get("height", size[0]), inputs.get("width", size[1])),
        )

    def _mapped_person(self, inputs: dict) -> _People:
        left, top, width, height = inputs["person_box"]
        size = (inputs["height"], inputs["width"])
        return _People(
            crops=self._normalize(inputs["image"])[None],
            centers=self._tensor(inputs["crop_center"])[None],
            extents=self._tensor(inputs["crop_extent"])[None],
            boxes=self._tensor([[left, top, left + width, top + height]]),
            scores=self._tensor([inputs["box_score"]]),
            image_size=size,
            output_size=size,
        )

    def _boxes(self, inputs: dict, image: Tensor) -> tuple[Tensor, Tensor]:
        """Corners (K, 4) in the image's pixels, all with an area, and scores (K,)."""
        height, width = image.shape[-2:]
        if "instances" in inputs:
            boxes, scores = given_boxes(inputs["instances"], (height, width))
        elif self.detector is not None:
            found, scores = self.detector(image)
            boxes = found.tensor
        else:
            boxes, scores = torch.tensor([[0.0, 0.0, width, height]]), torch.ones(1)
        boxes, scores = self._tensor(boxes), self._tensor(scores)
        has_area = torch.isfinite(boxes).all(dim=1) & (boxes[:, 2:] > boxes[:, :2]).all(dim=1)
        return boxes[has_area], scores[has_area]

    def _instances(
        self, people: _People, keypoints: Tensor, scores: Tensor, heatmaps: Tensor
    ) -> Instances:
        limit = keypoints.new_tensor(self.codec.crop_size[::-1]) - 1
        extents = people.extents[:, None]
        points = keypoints / limit * extents + people.centers[:, None] - extents / 2
        factors = [
            wanted / given
            for wanted, given in zip(people.output_size, people.image_size, strict=True)
        ]
        scale = points.new_tensor(factors[::-1])
        instances = Instances(people.output_size)
        instances.pred_boxes = Boxes(people.boxes * scale.repeat(2))
        instances.scores = people.scores
        instances.pred_classes = torch.zeros_like(people.scores, dtype=torch.int64)
        instances.pred_keypoints = torch.cat([points * scale, scores[..., None]], dim=-1)
        instances.crop_areas = (people.extents * scale).prod(dim=-1)
        if self.keep_heatmaps:
            instances.pred_keypoint_heatmaps = heatmaps
        return instances

    def _black(self) -> Tensor:
        """What a black pixel is after normalisation, (C, 1, 1)."""
        return -self.pixel_mean / self.pixel_std

    def _tensor(self, values: object) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=self.device)
