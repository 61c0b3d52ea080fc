"""Training and evaluation settings: Detectron2's own keys and this package's."""

from detectron2 import model_zoo
from detectron2.config import CfgNode
from omegaconf import DictConfig

from metaprompt_d2.engine import training_settings


def build_train(cfg: CfgNode) -> DictConfig:
    """Build `train`. docs/config.md explains the YAML keys that the values come from."""
    train = model_zoo.get_config("common/train.py").train
    train.merge_with(training_settings(cfg))
    train.update(
        output_dir=_move_to_lazy(cfg.OUTPUT_DIR),
        init_checkpoint=_move_to_lazy(cfg.MODEL.WEIGHTS),
    )
    return train


def _move_to_lazy(path: str) -> str:
    """Keep the outputs of LazyConfigs apart from those of the YAML recipes."""
    return f"output/lazy/{path.removeprefix('output/')}" if path.startswith("output/") else path
