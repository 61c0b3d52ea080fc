"""Mask2Former in this package's tools: its config keys, its models and its mappers.

export DETECTRON2_ENV_MODULE=examples/mask2former_env.py PYTHONPATH=/path/to/Mask2Former
python tools/train_net.py --config-file converted.yaml --num-gpus 8

docs/compose.md says how to convert mask2former.yaml, whose base runs code.
"""

from detectron2.data import DatasetMapper
from mask2former import (
    MaskFormerPanopticDatasetMapper,
    MaskFormerSemanticDatasetMapper,
    add_maskformer2_config,
)

from metaprompt_d2.config import CONFIG_KEYS_REGISTRY
from metaprompt_d2.data import DATASET_MAPPERS_REGISTRY


def mask_former_semantic(cfg, is_train):
    """Build the mapper that INPUT.DATASET_MAPPER_NAME names."""
    return MaskFormerSemanticDatasetMapper(cfg) if is_train else DatasetMapper(cfg, False)


def mask_former_panoptic(cfg, is_train):
    """Build the mapper that INPUT.DATASET_MAPPER_NAME names."""
    return MaskFormerPanopticDatasetMapper(cfg) if is_train else DatasetMapper(cfg, False)


def setup_environment():
    CONFIG_KEYS_REGISTRY.register(add_maskformer2_config)
    for mapper in (mask_former_semantic, mask_former_panoptic):
        DATASET_MAPPERS_REGISTRY.register(mapper)
