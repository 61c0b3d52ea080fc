"""`ConfigurableFCOS`: Detectron2's FCOS for YAML configs."""

from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone
from detectron2.modeling.meta_arch.fcos import FCOS, FCOSHead


@META_ARCH_REGISTRY.register()
class ConfigurableFCOS(FCOS):
    """FCOS (arXiv 1904.01355), configured by MODEL.RETINANET.

    Detectron2 has FCOS for LazyConfigs only. FCOS differs from RetinaNet in its head and losses; it
    has neither anchors nor a choice of box losses. MODEL.ANCHOR_GENERATOR is therefore unused, and
    of MODEL.RETINANET the keys IOU_THRESHOLDS, IOU_LABELS, BBOX_REG_WEIGHTS, BBOX_REG_LOSS_TYPE and
    SMOOTH_L1_LOSS_BETA. The name isn't "FCOS" because other projects, such as D2Go, register that.
    """

    @configurable
    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict:
        retinanet = cfg.MODEL.RETINANET
        backbone = build_backbone(cfg)
        shapes = backbone.output_shape()
        input_shape = [shapes[name] for name in retinanet.IN_FEATURES]
        head = FCOSHead(
            input_shape=input_shape,
            num_classes=retinanet.NUM_CLASSES,
            conv_dims=[input_shape[0].channels] * retinanet.NUM_CONVS,
            norm=retinanet.NORM,
            prior_prob=retinanet.PRIOR_PROB,
        )
        return {
            "backbone": backbone,
            "head": head,
            "head_in_features": retinanet.IN_FEATURES,
            "num_classes": retinanet.NUM_CLASSES,
            "focal_loss_alpha": retinanet.FOCAL_LOSS_ALPHA,
            "focal_loss_gamma": retinanet.FOCAL_LOSS_GAMMA,
            "test_score_thresh": retinanet.SCORE_THRESH_TEST,
            "test_topk_candidates": retinanet.TOPK_CANDIDATES_TEST,
            "test_nms_thresh": retinanet.NMS_THRESH_TEST,
            "max_detections_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }
