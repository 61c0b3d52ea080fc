"""Training features that exclude each other, found before anything is built."""

from detectron2.config import CfgNode

__all__ = ["check_combinations"]


def check_combinations(cfg: CfgNode) -> None:
    """
    Raises:
        ValueError: keys of a config that contradict each other; all are named.
    """
    diffusion = cfg.MODEL.DIFFUSION
    lora, frozen = diffusion.LORA.RANK != 0, diffusion.FREEZE_UNET
    decays = cfg.SOLVER.UNET_LAYER_DECAY != 1
    levels = tuple(diffusion.GRADIENT_CHECKPOINTING_LEVELS)
    amp = cfg.SOLVER.AMP
    contradictions = [
        (
            lora and frozen,
            f"MODEL.DIFFUSION.LORA.RANK {diffusion.LORA.RANK} trains adapters and freezes the rest "
            "of the UNet by itself; MODEL.DIFFUSION.FREEZE_UNET True would freeze them, too",
        ),
        (
            decays and frozen,
            f"SOLVER.UNET_LAYER_DECAY {cfg.SOLVER.UNET_LAYER_DECAY} scales the UNet's learning "
            "rates, but with MODEL.DIFFUSION.FREEZE_UNET True it has none: set one of them to 1.0 "
            "or False",
        ),
        (
            levels and not diffusion.GRADIENT_CHECKPOINTING,
            f"MODEL.DIFFUSION.GRADIENT_CHECKPOINTING_LEVELS {levels} needs "
            "MODEL.DIFFUSION.GRADIENT_CHECKPOINTING True",
        ),
        (
            amp.CONVERT_FROZEN and not amp.ENABLED,
            "SOLVER.AMP.CONVERT_FROZEN True needs SOLVER.AMP.ENABLED True",
        ),
    ]
    found = [message for holds, message in contradictions if holds]
    if found:
        raise ValueError("keys that contradict each other: " + "; ".join(found))
