"""`Mask2FormerHead`: masked attention from queries to segments."""

import logging
import math
from collections.abc import Mapping, Sequence

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from detectron2.structures import Instances
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage, has_event_storage
from detectron2.utils.logger import log_first_n
from torch import Tensor, nn

from ...utils.errors import InputError
from ...utils.optional import optional_packages
from .build import find_feature

# Class logits (N, Q, K + 1), of which the last is "no object", and mask logits (N, Q, h, w).
Prediction = tuple[Tensor, Tensor]

_ATTENDED = 3  # maps that the decoders attend to, the coarsest ones
_GROUPS = 32  # of the norms


@SEM_SEG_HEADS_REGISTRY.register()
class Mask2FormerHead(nn.Module):
    """Predicts a class and a mask for each of a fixed number of queries.

    B. Cheng et al., "Masked-attention Mask Transformer for Universal Image Segmentation", CVPR 2022
    (arXiv 2112.01527). Pixel decoder, transformer decoder, matcher and losses are those of the
    package transformers, which are pure PyTorch. Deformable attention reads the three coarsest
    features; finer ones are added from top to bottom, and the masks have the finest one's size.
    """

    @configurable
    def __init__(
        self,
        input_shape: Mapping[str, ShapeSpec],
        *,
        num_classes: int,
        num_queries: int = 100,
        conv_dim: int = 256,
        mask_dim: int = 256,
        hidden_dim: int = 256,
        num_heads: int = 8,
        encoder_layers: int = 6,
        encoder_feedforward_dim: int = 1024,
        decoder_layers: int = 10,
        feedforward_dim: int = 2048,
        deep_supervision: bool = True,
        class_weight: float = 2.0,
        mask_weight: float = 5.0,
        dice_weight: float = 5.0,
        no_object_weight: float = 0.1,
        num_points: int = 12544,
        oversample_ratio: float = 3.0,
        importance_sample_ratio: float = 0.75,
    ):
        """
        Args:
            input_shape: Shapes of at least three features by name, each half the size of the
                previous.
            num_classes: Number of classes K.
            num_queries: Number of queries Q.
            conv_dim, mask_dim, hidden_dim: Channels of the pixel decoder, of the maps that masks
                are computed from, and of the queries.
            num_heads: Heads of every attention.
            encoder_layers, encoder_feedforward_dim: Layers of the pixel decoder's attention, and
                hidden channels of their feed-forward networks.
            decoder_layers: Predictions of the transformer decoder: one before its first layer and
                one after each.
            feedforward_dim: Hidden channels of the transformer decoder's feed-forward networks.
            deep_supervision: Whether all predictions have losses, or the last one only.
            class_weight, mask_weight, dice_weight: Weights of the losses.
            no_object_weight: Weight of "no object" among the classes.
            num_points: Points of a mask at which its losses are computed.
            oversample_ratio: Random points among which the uncertain ones are chosen, as a multiple
                of `num_points`.
            importance_sample_ratio: Share of the points that are uncertain.

        Raises:
            InputError: The features don't fit, sizes aren't divisible, or transformers is missing.
        """
        super().__init__()
        self.in_features = sorted(input_shape, key=lambda name: input_shape[name].stride)
        shapes = [input_shape[name] for name in self.in_features]
        _check_strides({name: input_shape[name].stride for name in self.in_features})
        for name, dim, divisor in (
            ("conv_dim", conv_dim, math.lcm(_GROUPS, num_heads)),
            ("hidden_dim", hidden_dim, math.lcm(2, num_heads)),
        ):
            if dim % divisor:
                raise InputError(f"{name} is {dim}, expected a multiple of {divisor}")
        self.num_classes = num_classes
        self.num_queries = num_queries
        self.deep_supervision = deep_supervision
        self.loss_weights = {
            "loss_cross_entropy": class_weight,
            "loss_mask": mask_weight,
            "loss_dice": dice_weight,
        }
        with optional_packages("Mask2FormerHead"):
            from .mask2former_decoders import (
                Mask2FormerConfig,
                Mask2FormerDecoders,
                Mask2FormerLoss,
            )
        config = Mask2FormerConfig(
            num_labels=num_classes,
            num_queries=num_queries,
            feature_size=conv_dim,
            mask_feature_size=mask_dim,
            hidden_dim=hidden_dim,
            num_attention_heads=num_heads,
            encoder_layers=encoder_layers,
            encoder_feedforward_dim=encoder_feedforward_dim,
            decoder_layers=decoder_layers,
            dim_feedforward=feedforward_dim,
            class_weight=class_weight,
            mask_weight=mask_weight,
            dice_weight=dice_weight,
            no_object_weight=no_object_weight,
            train_num_points=num_points,
            oversample_ratio=oversample_ratio,
            importance_sample_ratio=importance_sample_ratio,
            feature_strides=[shape.stride for shape in shapes],
            common_stride=shapes[0].stride,
        )
        self.decoders = Mask2FormerDecoders(config, [shape.channels for shape in shapes])
        self.criterion = Mask2FormerLoss(config, self.loss_weights)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict:
        head, key = cfg.MODEL.MASK2FORMER, "MODEL.SEM_SEG_HEAD.IN_FEATURES"
        names = cfg.MODEL.SEM_SEG_HEAD.IN_FEATURES
        return {
            "input_shape": {name: find_feature(input_shape, name, key) for name in names},
            "num_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            "num_queries": head.NUM_OBJECT_QUERIES,
            "conv_dim": head.CONVS_DIM,
            "mask_dim": head.MASK_DIM,
            "hidden_dim": head.HIDDEN_DIM,
            "num_heads": head.NHEADS,
            "encoder_layers": head.ENC_LAYERS,
            "encoder_feedforward_dim": head.ENC_DIM_FEEDFORWARD,
            "decoder_layers": head.DEC_LAYERS,
            "feedforward_dim": head.DIM_FEEDFORWARD,
            "deep_supervision": head.DEEP_SUPERVISION,
            "class_weight": head.CLASS_WEIGHT,
            "mask_weight": head.MASK_WEIGHT,
            "dice_weight": head.DICE_WEIGHT,
            "no_object_weight": head.NO_OBJECT_WEIGHT,
            "num_points": head.TRAIN_NUM_POINTS,
            "oversample_ratio": head.OVERSAMPLE_RATIO,
            "importance_sample_ratio": head.IMPORTANCE_SAMPLE_RATIO,
        }

    def forward(
        self, features: Mapping[str, Tensor], targets: Sequence[Instances] | None = None
    ) -> tuple[Prediction | None, dict[str, Tensor]]:
        """Predict segments, or compute the losses in training.

        Args:
            features: Features of the backbone by name.
            targets: Segments of each image, in training, with "gt_classes" (n,) and "gt_masks",
                `BitMasks` of the size of the padded images.

        Returns:
            Class and mask logits of the last layer, at least float32, and no losses; in training
            None, and the weighted losses "loss_cross_entropy", "loss_mask" and "loss_dice", with
            "_0", "_1", ... for the layers before the last.
        """
        predictions = self.decoders([features[name] for name in self.in_features])
        if self.training:
            assert targets is not None
            with torch.autocast(predictions[-1][0].device.type, enabled=False):
                return None, self._losses([_at_least_float32(p) for p in predictions], targets)
        return _at_least_float32(predictions[-1]), {}

    def _losses(
        self, predictions: Sequence[Prediction], targets: Sequence[Instances]
    ) -> dict[str, Tensor]:
        """Compute the weighted losses, in the order in which transformers draws random points."""
        classes = [target.gt_classes for target in targets]
        masks = [target.gt_masks.tensor.to(predictions[-1][1].dtype) for target in targets]
        self._report_unmatched(classes)
        num_masks = _average_over_processes(sum(map(len, classes)), classes[0].device)
        *earlier, last = predictions
        supervised = {"": last}
        if self.deep_supervision:
            supervised |= {f"_{index}": prediction for index, prediction in enumerate(earlier)}
        losses: dict[str, Tensor] = {}
        for suffix, (class_logits, mask_logits) in supervised.items():
            pairs = self.criterion.matcher(mask_logits, class_logits, masks, classes)
            found = self.criterion.loss_masks(mask_logits, masks, pairs, num_masks)
            found |= self.criterion.loss_labels(class_logits, classes, pairs)
            losses |= {name + suffix: self.loss_weights[name] * found[name] for name in found}
        return losses

    def _report_unmatched(self, classes: Sequence[Tensor]) -> None:
        """Count the segments beyond the number of queries, which have no loss."""
        unmatched = sum(max(len(labels) - self.num_queries, 0) for labels in classes)
        if unmatched:
            log_first_n(
                logging.WARNING,
                f"an image has {max(map(len, classes))} segments, the head {self.num_queries} "
                "queries (MODEL.MASK2FORMER.NUM_OBJECT_QUERIES): the rest has no loss. "
                '"segments_without_query" counts them in metrics.json',
                name=__name__,
            )
        if has_event_storage():
            get_event_storage().put_scalar("segments_without_query", unmatched)


def _check_strides(strides: Mapping[str, int]) -> None:
    values = list(strides.values())
    expected = [values[0] * 2**level for level in range(len(values))] if values else []
    if len(values) < _ATTENDED or values != expected:
        raise InputError(
            f"the strides of the head's features (MODEL.SEM_SEG_HEAD.IN_FEATURES) are "
            f"{dict(strides)}, expected at least {_ATTENDED}, each twice the one before"
        )


def _at_least_float32(prediction: Prediction) -> Prediction:
    classes, masks = (x.to(torch.promote_types(x.dtype, torch.float32)) for x in prediction)
    return classes, masks


def _average_over_processes(count: int, device: torch.device) -> Tensor:
    """Average a count over the processes, at least 1."""
    average = torch.tensor(float(count), device=device)
    if comm.get_world_size() > 1:
        torch.distributed.all_reduce(average)
    return (average / comm.get_world_size()).clamp(min=1)
