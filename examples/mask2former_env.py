"""Mask2Former in this package's tools: its config keys, its models and its mapper.

export DETECTRON2_ENV_MODULE=examples/mask2former_env.py PYTHONPATH=/path/to/Mask2Former
python tools/train_net.py --config-file examples/mask2former.yaml --num-gpus 8
"""

from detectron2.data import DatasetMapper
from mask2former import MaskFormerSemanticDatasetMapper, add_maskformer2_config

from metaprompt_d2.config import CONFIG_KEYS_REGISTRY
from metaprompt_d2.data import DATASET_MAPPERS_REGISTRY


def mask_former_semantic(cfg, is_train):
    """Build the mapper that INPUT.DATASET_MAPPER_NAME names."""
    return MaskFormerSemanticDatasetMapper(cfg) if is_train else DatasetMapper(cfg, False)


def setup_environment():
    CONFIG_KEYS_REGISTRY.register(add_maskformer2_config)
    DATASET_MAPPERS_REGISTRY.register(mask_former_semantic)
