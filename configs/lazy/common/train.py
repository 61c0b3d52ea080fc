"""Training and evaluation settings: Detectron2's own keys and this package's."""

from detectron2 import model_zoo
from detectron2.config import CfgNode
from omegaconf import DictConfig


def build_train(cfg: CfgNode) -> DictConfig:
    """Build `train`. docs/config.md explains the YAML keys that the values come from."""
    solver = cfg.SOLVER
    train = model_zoo.get_config("common/train.py").train
    train.update(
        output_dir=_move_to_lazy(cfg.OUTPUT_DIR),
        init_checkpoint=_move_to_lazy(cfg.MODEL.WEIGHTS),
        max_iter=solver.MAX_ITER,
        eval_period=cfg.TEST.EVAL_PERIOD,
        log_period=solver.LOG_PERIOD,
        device=cfg.MODEL.DEVICE,
        seed=cfg.SEED,
        cudnn_benchmark=cfg.CUDNN_BENCHMARK,
        accumulation_steps=solver.ACCUMULATION_STEPS,
        # Clip the norm of the whole model's gradient to this value.
        max_grad_norm=solver.CLIP_GRADIENTS.CLIP_VALUE if solver.CLIP_GRADIENTS.ENABLED else None,
        ema=dict(enabled=solver.EMA.ENABLED, decay=solver.EMA.DECAY),
        # Stable Diffusion to start from if neither init_checkpoint nor --resume gives a checkpoint.
        diffusion=dict(weights=cfg.MODEL.DIFFUSION.WEIGHTS, strict=cfg.MODEL.DIFFUSION.STRICT),
        # Memory layout and `torch.compile` mode ("" = eager) of the diffusion networks.
        speed=dict(
            channels_last=cfg.MODEL.SPEED.CHANNELS_LAST, compile_mode=cfg.MODEL.SPEED.COMPILE
        ),
        # Metric whose best checkpoint is kept as model_best.pth.
        best_metric=dict(name=solver.BEST_METRIC, mode=solver.BEST_METRIC_MODE),
    )
    train.amp.update(
        enabled=solver.AMP.ENABLED, dtype=solver.AMP.DTYPE, convert_frozen=solver.AMP.CONVERT_FROZEN
    )
    train.ddp.find_unused_parameters = solver.FIND_UNUSED_PARAMETERS
    train.checkpointer.period = solver.CHECKPOINT_PERIOD
    return train


def _move_to_lazy(path: str) -> str:
    """Keep the outputs of LazyConfigs apart from those of the YAML recipes."""
    return f"output/lazy/{path.removeprefix('output/')}" if path.startswith("output/") else path
