"""`UPerHead`: UPerNet's decode head for feature pyramids, with an auxiliary FCN head."""

from collections.abc import Mapping, Sequence

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import Conv2d, NaiveSyncBatchNorm, ShapeSpec, get_norm
from detectron2.modeling import SEM_SEG_HEADS_REGISTRY
from detectron2.utils import comm
from fvcore.nn import weight_init
from torch import Tensor, nn
from torch.nn import functional as F

from ...layers import Float32Sequential, init_normal, lovasz_softmax, mean_cross_entropy, resize
from ...utils.errors import InputError

# Groups of Detectron2's norm "GN".
_GROUPS = 32
# Detectron2's names of norms over several processes. In one process they are BatchNorm.
_SYNCHRONIZED = ("SyncBN", "nnSyncBN", "naiveSyncBN", "naiveSyncBN_N")


@SEM_SEG_HEADS_REGISTRY.register()
class UPerHead(nn.Module):
    """Pyramid pooling on the coarsest map, a top-down path, and one fused map to classify.

    See T. Xiao et al., "Unified Perceptual Parsing for Scene Understanding", ECCV 2018
    (arXiv 1807.10221), in the form of mmsegmentation 0.30 with which the official recipe trains.
    """

    @configurable
    def __init__(
        self,
        input_shape: Mapping[str, ShapeSpec],
        *,
        num_classes: int,
        conv_dim: int = 512,
        pool_scales: Sequence[int] = (1, 2, 3, 6),
        norm: str | type[nn.Module] = "SyncBN",
        dropout: float = 0.1,
        ignore_value: int = 255,
        loss_weight: float = 1.0,
        lovasz_loss_weight: float = 1.0,
        aux_in_feature: str = "p4",
        aux_loss_weight: float = 0.4,
    ):
        """
        Args:
            input_shape: Shapes of the input features by name, each half the size of the previous.
            num_classes, conv_dim: Number of classes K, and channels of the head's maps.
            pool_scales: Grid sizes of the pyramid pooling module.
            norm: Detectron2's name of a norm. "SyncBN" is plain BN in a single process and
                Detectron2's naive one between CPU processes.
            dropout: Probability of dropping a channel before the classifier.
            ignore_value: Label without loss.
            loss_weight, lovasz_loss_weight, aux_loss_weight: Weights of the cross-entropy, the
                Lovasz loss and the auxiliary cross-entropy (0 for no auxiliary head).
            aux_in_feature: Input feature of the auxiliary head.

        Raises:
            InputError: The auxiliary head's feature is unknown, or GroupNorm cannot divide the
                channels.
        """
        super().__init__()
        self.in_features = sorted(input_shape, key=lambda name: input_shape[name].stride)
        if aux_loss_weight > 0 and aux_in_feature not in self.in_features:
            raise InputError(
                f"aux_in_feature is {aux_in_feature!r}, expected one of the "
                f"head's features {self.in_features}"
            )
        self.common_stride = input_shape[self.in_features[0]].stride
        self._coarsest_stride = input_shape[self.in_features[-1]].stride
        self.ignore_value = ignore_value
        self.loss_weight = loss_weight
        self.lovasz_loss_weight = lovasz_loss_weight
        self.aux_in_feature = aux_in_feature
        self.aux_loss_weight = aux_loss_weight

        if norm == "GN" and conv_dim % _GROUPS:
            raise InputError(
                f"conv_dim (MODEL.SEM_SEG_HEAD.CONVS_DIM) is {conv_dim}, expected a multiple of "
                f"{_GROUPS} for the norm GN"
            )
        norm = _norm_of_this_run(norm)
        # Values of one image that a norm sees, for each pixel; 0 for norms that need no more.
        self._values_per_pixel = {"BN": 1, "GN": conv_dim // _GROUPS}.get(str(norm), 0)
        self._pools_to_one_pixel = 1 in pool_scales
        channels = [input_shape[name].channels for name in self.in_features]
        self.pyramid_pooling = nn.ModuleList(
            Float32Sequential(nn.AdaptiveAvgPool2d(scale), _conv(channels[-1], conv_dim, 1, norm))
            for scale in pool_scales
        )
        pooled = channels[-1] + len(pool_scales) * conv_dim
        self.bottleneck = _conv(pooled, conv_dim, 3, norm)
        self.laterals = nn.ModuleList(_conv(width, conv_dim, 1, norm) for width in channels[:-1])
        self.outputs = nn.ModuleList(_conv(conv_dim, conv_dim, 3, norm) for _ in channels[:-1])
        self.fuse = _conv(len(channels) * conv_dim, conv_dim, 3, norm)
        self.dropout = nn.Dropout2d(dropout)
        self.predictor = _classifier(conv_dim, num_classes)
        if aux_loss_weight > 0:
            self.aux_head = nn.Sequential(
                _conv(input_shape[aux_in_feature].channels, conv_dim, 3, norm),
                nn.Dropout2d(dropout),
                _classifier(conv_dim, num_classes),
            )

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: Mapping[str, ShapeSpec]) -> dict:
        head = cfg.MODEL.SEM_SEG_HEAD
        if missing := [name for name in head.IN_FEATURES if name not in input_shape]:
            raise InputError(
                f"MODEL.SEM_SEG_HEAD.IN_FEATURES: the backbone has no {missing}, "
                f"only {list(input_shape)}"
            )
        return {
            "input_shape": {name: input_shape[name] for name in head.IN_FEATURES},
            "num_classes": head.NUM_CLASSES,
            "conv_dim": head.CONVS_DIM,
            "pool_scales": head.POOL_SCALES,
            "norm": head.NORM,
            "dropout": head.DROPOUT,
            "ignore_value": head.IGNORE_VALUE,
            "loss_weight": head.LOSS_WEIGHT,
            "lovasz_loss_weight": head.LOVASZ_LOSS_WEIGHT,
            "aux_in_feature": head.AUX_IN_FEATURE,
            "aux_loss_weight": head.AUX_LOSS_WEIGHT,
        }

    def forward(
        self, features: Mapping[str, Tensor], targets: Tensor | None = None
    ) -> tuple[Tensor | None, dict[str, Tensor]]:
        """Predict logits, or compute the losses in training, as Detectron2's heads do.

        Args:
            features: Features (N, C, H / stride, W / stride) by name.
            targets: Labels (N, H, W), in training.

        Returns:
            In training None and the losses `loss_sem_seg`, `loss_lovasz` and `loss_aux`. In
            inference logits (N, K, H, W) and an empty dict.

        Raises:
            InputError: A norm would be trained on a single value.
        """
        if not self.training:
            logits = self.layers(features)
            return resize(logits, [side * self.common_stride for side in logits.shape[-2:]]), {}
        assert targets is not None
        self._refuse_one_value(features[self.in_features[-1]])
        # Softmax, logarithm and sorting need float32 under autocast.
        size, ignored = targets.shape[-2:], self.ignore_value
        logits = resize(self.layers(features).float(), size)
        cross_entropy = mean_cross_entropy(logits, targets, ignore_value=ignored)
        losses = {"loss_sem_seg": cross_entropy * self.loss_weight}
        if self.lovasz_loss_weight > 0:
            lovasz = lovasz_softmax(logits, targets, ignore_value=ignored)
            losses["loss_lovasz"] = lovasz * self.lovasz_loss_weight
        if self.aux_loss_weight > 0:
            logits = resize(self.aux_head(features[self.aux_in_feature]).float(), size)
            cross_entropy = mean_cross_entropy(logits, targets, ignore_value=ignored)
            losses["loss_aux"] = cross_entropy * self.aux_loss_weight
        return None, losses

    def _refuse_one_value(self, coarsest: Tensor) -> None:
        num_images, _, height, width = coarsest.shape
        pixels = num_images * (1 if self._pools_to_one_pixel else height * width)
        if pixels * self._values_per_pixel == 1:
            raise InputError(
                f"the head's norm cannot train on one image of {height * self._coarsest_stride}x"
                f"{width * self._coarsest_stride} pixels a process: its coarsest map leaves one "
                "value. Give every process at least 2 images (SOLVER.IMS_PER_BATCH, "
                "SOLVER.ACCUMULATION_STEPS), train in several processes with SyncBN, or set "
                "MODEL.SEM_SEG_HEAD.NORM to GN and MODEL.SEM_SEG_HEAD.CONVS_DIM to a larger "
                f"multiple of {_GROUPS}"
            )

    def layers(self, features: Mapping[str, Tensor]) -> Tensor:
        """Predict logits (N, K, h, w) at the finest feature's size."""
        maps = [features[name] for name in self.in_features]
        return self.predictor(self.dropout(self.fuse(torch.cat(self.pyramid(maps), dim=1))))

    def pyramid(self, maps: list[Tensor]) -> list[Tensor]:
        """Run the top-down path; its outputs (N, conv_dim, h, w) have the finest map's size."""
        coarsest = self._pool_pyramid(maps[-1])
        tops = [coarsest]
        for lateral, feature in zip(self.laterals[::-1], maps[-2::-1], strict=True):
            tops.append(lateral(feature) + resize(tops[-1], feature.shape[-2:]))
        outputs = [conv(top) for conv, top in zip(self.outputs, tops[:0:-1], strict=True)]
        return [resize(output, maps[0].shape[-2:]) for output in [*outputs, coarsest]]

    def _pool_pyramid(self, feature: Tensor) -> Tensor:
        size = feature.shape[-2:]
        pooled = [resize(branch(feature), size) for branch in self.pyramid_pooling]
        return self.bottleneck(torch.cat([feature, *pooled], dim=1))


class _Float32NaiveSyncBN(NaiveSyncBatchNorm):
    """Detectron2's naive SyncBN in float32: its E[x^2] - E[x]^2 fails in autocast's bfloat16."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float()).to(x.dtype)


def _norm_of_this_run(norm: str | type[nn.Module]) -> str | type[nn.Module]:
    """Replace "SyncBN" where torch's own doesn't work, which needs several GPU processes."""
    if comm.get_world_size() == 1 and norm in _SYNCHRONIZED:
        return "BN"
    if norm != "SyncBN":
        return norm
    return "SyncBN" if torch.cuda.is_available() else _Float32NaiveSyncBN


def _conv(
    in_channels: int, out_channels: int, kernel_size: int, norm: str | type[nn.Module]
) -> Conv2d:
    layers = {"norm": get_norm(norm, out_channels), "activation": F.relu}
    padding = kernel_size // 2
    conv = Conv2d(in_channels, out_channels, kernel_size, padding=padding, bias=not norm, **layers)
    weight_init.c2_msra_fill(conv)
    return conv


def _classifier(in_channels: int, num_classes: int) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, num_classes, 1)
    init_normal(conv, std=0.01)
    return conv
