"""`UniversalSegmentor`: semantic, panoptic and instance segmentation from one set of queries."""

import logging
from collections.abc import Collection
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import BitMasks, Instances
from torch import Tensor
from torch.nn import functional as F

from ...data import find_thing_ids
from ...layers import resize
from ...utils.errors import InputError
from ..mask_classification import best_instances, panoptic_segments, semantic_scores
from .sem_seg import SlidingWindowSegmentor

logger = logging.getLogger(__name__)


@META_ARCH_REGISTRY.register()
class UniversalSegmentor(SlidingWindowSegmentor):
    """Mask2Former (arXiv 2112.01527) on any backbone, with a `Mask2FormerHead`.

    It predicts up to three outputs for an image, at the size of its file, in Detectron2's formats:

    * "sem_seg": scores (K, height, width) from 0, the best class of a pixel has the highest one. In
      sliding windows and with test-time augmentation, scores are averaged.
    * "panoptic_seg": segment ids (height, width), and a list of the segments.
    * "instances": instances with masks, boxes, scores and classes.

    If "sem_seg" is the only output, scores are computed at the size of the model's input and then
    resized; else masks are resized before anything is computed from them, as in Mask2Former.
    """

    task = "universal"

    @configurable
    def __init__(
        self,
        *,
        semantic: bool = True,
        panoptic: bool = False,
        instances: bool = False,
        thing_ids: Collection[int] | None = None,
        score_threshold: float = 0.8,
        overlap_threshold: float = 0.8,
        max_instances: int = 100,
        **shared: Any,
    ):
        """
        Args:
            semantic, panoptic, instances: Whether to predict this output.
            thing_ids: Classes that are countable; None for all.
            score_threshold, overlap_threshold: See `panoptic_segments`.
            max_instances: Instances per image.
            shared: Arguments of `SlidingWindowSegmentor`. Windows are for "sem_seg" alone.

        Raises:
            InputError: No output is chosen, or one that can't be predicted in windows, or no
                instance is allowed.
        """
        super().__init__(**shared)
        if not (semantic or panoptic or instances):
            raise InputError(
                "MODEL.MASK2FORMER.TEST turns off SEMANTIC_ON, PANOPTIC_ON and INSTANCE_ON: "
                "nothing would be predicted"
            )
        if self.window_size is not None and (panoptic or instances):
            raise InputError(
                "segments of sliding windows cannot be averaged: TEST.SLIDING_WINDOW.ENABLED must "
                "be False where MODEL.MASK2FORMER.TEST.PANOPTIC_ON or INSTANCE_ON is True"
            )
        if max_instances < 1:
            raise InputError(
                f"max_instances (TEST.DETECTIONS_PER_IMAGE) is {max_instances}, expected at least 1"
            )
        self.semantic = semantic
        self.panoptic = panoptic
        self.instances = instances
        self.thing_ids = thing_ids
        self.score_threshold = score_threshold
        self.overlap_threshold = overlap_threshold
        self.max_instances = max_instances

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        test = cfg.MODEL.MASK2FORMER.TEST
        datasets = [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]
        return super().from_config(cfg) | {
            "semantic": test.SEMANTIC_ON,
            "panoptic": test.PANOPTIC_ON,
            "instances": test.INSTANCE_ON,
            "thing_ids": find_thing_ids(datasets) if test.PANOPTIC_ON else None,
            "score_threshold": test.OBJECT_MASK_THRESHOLD,
            "overlap_threshold": test.OVERLAP_THRESHOLD,
            "max_instances": cfg.TEST.DETECTIONS_PER_IMAGE,
        }

    @property
    def map_name(self) -> str:
        return "sem_seg"

    def forward(self, batched_inputs: list[dict]) -> dict[str, Tensor] | list[dict[str, Any]]:
        """Compute losses in training, and the chosen outputs in inference.

        Args:
            batched_inputs: Dicts as in `DenseModel`; in training with "instances", whose
                "gt_classes" and "gt_masks" (`BitMasks`) are the segments of the image.
        """
        if self.training:
            images = self._stack([self._normalize(inputs["image"]) for inputs in batched_inputs])
            targets = self._training_inputs(batched_inputs, "instances")
            height, width = images.shape[-2:]
            targets = [_pad_masks(target, (height, width)) for target in targets]
            return self.sem_seg_head(self.backbone(images), targets)[1]
        if not (self.panoptic or self.instances):
            return super().forward(batched_inputs)
        return [self._segment(inputs) for inputs in batched_inputs]

    def predict_queries(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Predict from normalized images (N, C, H, W) in one pass.

        Returns:
            Class logits (N, Q, K + 1) and mask logits (N, Q, H, W).
        """
        padded = self._pad(images)
        with self._autocast():
            (classes, masks), _ = self.sem_seg_head(self.backbone(padded))
        masks = resize(masks, padded.shape[-2:])
        return classes, masks[..., : images.shape[-2], : images.shape[-1]]

    def _segment(self, inputs: dict) -> dict[str, Any]:
        image = self._normalize(inputs["image"])
        classes, masks = self.predict_queries(image[None])
        height, width = image.shape[-2:]
        masks = resize(masks, (inputs.get("height", height), inputs.get("width", width)))
        if not (classes.isfinite().all() and masks.isfinite().all()):
            name = inputs.get("file_name", "an image")
            logger.warning("%s: the prediction is NaN or infinite", name)
        outputs: dict[str, Any] = {}
        if self.panoptic:
            outputs["panoptic_seg"] = panoptic_segments(
                classes[0],
                masks[0],
                self.thing_ids,
                score_threshold=self.score_threshold,
                overlap_threshold=self.overlap_threshold,
            )
        if self.instances:
            outputs["instances"] = best_instances(
                classes[0], masks[0], self.thing_ids, max_instances=self.max_instances
            )
        if self.semantic:
            outputs["sem_seg"] = semantic_scores(classes, masks)[0]
        return outputs

    def _maps(self, features: dict[str, Tensor], size: tuple[int, int]) -> Tensor:
        """Compute scores of classes from a backbone's features, resized to a size."""
        (classes, masks), _ = self.sem_seg_head(features)
        return semantic_scores(classes, resize(masks, size))


def _pad_masks(target: Instances, size: tuple[int, int]) -> Instances:
    """Pad masks at the right and the bottom to a size (height, width)."""
    masks = target.gt_masks.tensor
    rows, columns = size[0] - masks.shape[-2], size[1] - masks.shape[-1]
    padded = BitMasks(F.pad(masks, (0, columns, 0, rows)))
    return Instances(size, gt_classes=target.gt_classes, gt_masks=padded)
