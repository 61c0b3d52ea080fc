"""`TopDownPoseEstimator`: crops of people in, `Instances` with keypoints out."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Boxes, Instances
from torch import Tensor, nn

from ...codecs import KeypointSchema, UDPHeatmapCodec, average_with_mirrored, box_to_crop
from ...data import build_heatmap_codec, build_keypoint_schema, check_flip_pairs
from ..heads.build import build_heatmap_head
from ..person_crops import cut_crops, given_people, make_people
from ..person_detector import PersonDetector
from .base import TaskModel


class _People(NamedTuple):
    """The K people of one input; their places are in pixels of an image of `image_size`."""

    crops: Tensor  # normalized, (K, C, h, w)
    centers: Tensor  # of the crops, (K, 2), x then y
    extents: Tensor  # of the crops, (K, 2), x then y
    boxes: Tensor  # corners (K, 4)
    scores: Tensor  # of the boxes, (K,)
    classes: Tensor  # (K,) int64
    image_size: tuple[int, int]  # (height, width)
    output_size: tuple[int, int]  # (height, width) to which the output is scaled


@META_ARCH_REGISTRY.register()
class TopDownPoseEstimator(TaskModel):
    """Keypoints of people, each predicted from a crop of its own.

    As in ViTPose, heatmaps are averaged with those of the mirrored crop and decoded with sub-pixel
    accuracy in UDP's coordinates.
    """

    task = "pose"

    @configurable
    def __init__(
        self,
        *,
        heatmap_head: nn.Module,
        schema: KeypointSchema,
        codec: UDPHeatmapCodec,
        padding: float = 1.25,
        size_divisibility: int = 0,
        flip: bool = True,
        batch_size: int = 64,
        keep_heatmaps: bool = False,
        detector: Callable[[Tensor], Instances] | None = None,
        **shared: Any,
    ):
        """
        Args:
            heatmap_head: Heatmap head; see `HEATMAP_HEADS_REGISTRY`.
            schema: The J keypoints; their flip pairs are needed for `flip`.
            codec: Codec with the sizes of crops and heatmaps, which decodes heatmaps.
            padding: Factor on people's boxes.
            size_divisibility: Number to whose multiples crops are padded, besides the backbone's.
            flip: Whether to average with the mirrored crop's heatmaps.
            batch_size: Crops that pass through the model at once, mirrored crops not counted.
            keep_heatmaps: Whether to return the heatmaps.
            detector: Function from an image (C, H, W), 0..255, to `Instances` as `given_people`
                returns them, for images without boxes. With None the whole image is one person.
            shared: Arguments of `TaskModel`.
        """
        super().__init__(**shared)
        self.heatmap_head = heatmap_head
        self.schema = schema
        self.codec = codec
        self.padding = padding
        self.size_divisibility = int(np.lcm(size_divisibility or 1, self.size_divisibility or 1))
        self.flip = flip
        self.batch_size = batch_size
        self.keep_heatmaps = keep_heatmaps
        self.detector = detector

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        arguments = super().from_config(cfg)
        schema, flip = build_keypoint_schema(cfg), cfg.TEST.AUG.ENABLED and cfg.TEST.AUG.FLIP
        if flip:
            check_flip_pairs(schema, "TEST.AUG.FLIP False")
        has_detector = bool(cfg.MODEL.PERSON_DETECTOR.CONFIG_FILE)
        return arguments | {
            "heatmap_head": build_heatmap_head(cfg, arguments["backbone"].output_shape()),
            "schema": schema,
            "codec": build_heatmap_codec(cfg),
            "padding": cfg.INPUT.PERSON_CROP.PADDING,
            "size_divisibility": cfg.MODEL.HEATMAP_HEAD.SIZE_DIVISIBILITY,
            "flip": flip,
            "batch_size": cfg.TEST.POSE.BATCH_SIZE,
            "keep_heatmaps": cfg.TEST.POSE.HEATMAPS,
            "detector": PersonDetector.from_config(cfg) if has_detector else None,
        }

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict[str, Instances]]:
        """Compute losses in training, and people with keypoints in inference.

        Args:
            batched_inputs: One dict for each person, as `PoseMapper` returns them, with

                * "image": the crop (C, h, w), 0..255;
                * "heatmaps": (J, h', w'), and "keypoint_weights": (J,), in training;
                * "crop_center", "crop_extent": (2,), "person_box" (x, y, width, height),
                  "box_score", "category_id", and "height" and "width" of the file, in inference.

                In inference a dict without "crop_center" is a whole image instead, with

                * "image": (C, H, W), 0..255, in the format INPUT.FORMAT;
                * "instances": `Instances` with `pred_boxes`, `proposal_boxes` or `gt_boxes` in
                  pixels of their own `image_size`, `scores` (default: 1), and `pred_classes` or
                  `gt_classes` (default: 0). Without them the detector finds people, or the whole
                  image is one person;
                * "height", "width": size of the output; default: the image's.

        Returns:
            In training the head's losses. In inference one dict for each input, with "instances":
            K people in pixels of (height, width), with `pred_boxes`, `scores` and `pred_classes`
            of the boxes, `pred_keypoints` (K, J, 3) of x, y, score in COCO's coordinates,
            `crop_areas` (K,) in square pixels, and, with `keep_heatmaps`, `pred_keypoint_heatmaps`
            (K, J, h', w') of the crops. Boxes without area are left out.

        Raises:
            InputError: `Instances` without boxes.
        """
        if self.training:
            *targets, crops = (
                torch.stack(self._training_inputs(batched_inputs, key))
                for key in ("heatmaps", "keypoint_weights", "image")
            )
            padded = self._pad(self._normalize(crops))
            return self.heatmap_head(self.backbone(padded), padded.shape[-2:], targets)[1]
        people = [
            self._mapped_person(inputs) if "crop_center" in inputs else self._find_people(inputs)
            for inputs in batched_inputs
        ]
        heatmaps = self._predict(torch.cat([item.crops for item in people]))
        counts = [len(item.crops) for item in people]
        parts = (part.split(counts) for part in (*self.codec.decode(heatmaps), heatmaps))
        return [
            {"instances": self._instances(*results)} for results in zip(people, *parts, strict=True)
        ]

    def predict_batch(self, images: Tensor) -> Tensor:
        """Predict heatmaps (N, J, h', w') from normalized crops (N, C, h, w) in one pass."""
        height, width = self.codec.heatmap_size
        padded = self._pad(images)
        with self._autocast():
            heatmaps, _ = self.heatmap_head(self.backbone(padded), padded.shape[-2:])
        return heatmaps[..., :height, :width]

    def _predict(self, crops: Tensor) -> Tensor:
        """Predict heatmaps (K, J, h', w') of normalized crops (K, C, h, w)."""
        if not len(crops):
            return crops.new_zeros(0, len(self.schema), *self.codec.heatmap_size)
        outputs = []
        for batch in crops.split(self.batch_size):
            views = torch.cat([batch, batch.flip(-1)]) if self.flip else batch
            heatmaps = self.predict_batch(views)
            if self.flip:
                plain, mirrored = heatmaps.chunk(2)
                heatmaps = average_with_mirrored(plain, mirrored, self.schema.flip_indices)
            outputs.append(heatmaps)
        return torch.cat(outputs)

    def _mapped_person(self, inputs: dict) -> _People:
        left, top, width, height = inputs["person_box"]
        size = (inputs["height"], inputs["width"])
        return _People(
            crops=self._normalize(inputs["image"])[None],
            centers=self._float_tensor(inputs["crop_center"])[None],
            extents=self._float_tensor(inputs["crop_extent"])[None],
            boxes=self._float_tensor([[left, top, left + width, top + height]]),
            scores=self._float_tensor([inputs["box_score"]]),
            classes=torch.tensor([inputs["category_id"]], device=self.device),
            image_size=size,
            output_size=size,
        )

    def _find_people(self, inputs: dict) -> _People:
        image = self._to_device(inputs["image"])
        height, width = image.shape[-2:]
        found = self._find_instances(inputs, image)
        boxes = self._float_tensor(found.pred_boxes.tensor)
        corners = boxes.cpu().double().numpy()
        sides = np.concatenate([corners[:, :2], corners[:, 2:] - corners[:, :2]], axis=1)
        size = self.codec.crop_size
        centers, extents = box_to_crop(sides, aspect=size[1] / size[0], padding=self.padding)
        black = -self.pixel_mean / self.pixel_std
        return _People(
            crops=cut_crops(self._normalize(image), centers, extents, size, outside=black),
            centers=self._float_tensor(centers),
            extents=self._float_tensor(extents),
            boxes=boxes,
            scores=self._float_tensor(found.scores),
            classes=found.pred_classes.to(self.device),
            image_size=(height, width),
            output_size=(inputs.get("height", height), inputs.get("width", width)),
        )

    def _find_instances(self, inputs: dict, image: Tensor) -> Instances:
        """Find people as `given_people` returns them; all boxes have an area."""
        height, width = image.shape[-2:]
        if "instances" in inputs:
            found = given_people(inputs["instances"], (height, width))
        elif self.detector is not None:
            found = self.detector(image)
        else:
            found = make_people((height, width), Boxes([[0, 0, width, height]]))
        boxes = found.pred_boxes.tensor
        return found[torch.isfinite(boxes).all(dim=1) & (boxes[:, 2:] > boxes[:, :2]).all(dim=1)]

    def _instances(
        self, people: _People, keypoints: Tensor, scores: Tensor, heatmaps: Tensor
    ) -> Instances:
        """Place the keypoints (K, J, 2) of crops in the output."""
        limit = keypoints.new_tensor(self.codec.crop_size[::-1]) - 1
        extents = people.extents[:, None]
        points = keypoints / limit * extents + people.centers[:, None] - extents / 2
        (height, width), (rows, columns) = people.output_size, people.image_size
        scale = points.new_tensor([width / columns, height / rows])
        instances = Instances(people.output_size)
        instances.pred_boxes = Boxes(people.boxes * scale.repeat(2))
        instances.scores = people.scores
        instances.pred_classes = people.classes
        instances.pred_keypoints = torch.cat([points * scale, scores[..., None]], dim=-1)
        instances.crop_areas = (people.extents * scale).prod(dim=-1)
        if self.keep_heatmaps:
            instances.pred_keypoint_heatmaps = heatmaps
        return instances

    def _float_tensor(self, values: object) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=self.device)
