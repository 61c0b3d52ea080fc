"""The trainer on a model of three layers, which trains in milliseconds."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from detectron2.config import CfgNode
from helpers import smallest_cfg
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from metaprompt_d2.engine import (
    SafeCheckpointer,
    build_lr_scheduler,
    build_optimizer,
    training_settings,
)
from metaprompt_d2.engine.base_trainer import BaseTrainer

RULES = [[r"first", 0.1, 0.5]]


class Lines(nn.Module):
    """Three layers, the first two of which have equal shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 1)

    def forward(self, batch: list[dict]) -> dict[str, Tensor]:
        x = torch.stack([item["x"] for item in batch])
        return {"loss": self.third(self.second(self.first(x)).tanh()).square().mean()}


class TinyTrainer(BaseTrainer):
    """The trainer on `Lines`, which records the settings of every iteration."""

    def __init__(
        self,
        cfg: CfgNode,
        *,
        schedule: Callable[[CfgNode, Optimizer], LRScheduler] = build_lr_scheduler,
        kind: type[nn.Module] = Lines,
    ):
        torch.manual_seed(0)
        model = kind()
        optimizer = build_optimizer(cfg, model)
        self.seen: dict[int, list[dict]] = {}
        super().__init__(
            training_settings(cfg),
            model,
            optimizer,
            schedule(cfg, optimizer),
            SafeCheckpointer(model, cfg.OUTPUT_DIR),
        )

    def build_loader(self, seed: int, start_iter: int) -> Iterator[list[dict]]:
        for iteration in itertools.count(start_iter):
            generator = torch.Generator().manual_seed(iteration)
            yield [{"x": torch.randn(3, generator=generator)} for _ in range(2)]

    def evaluate(self) -> dict:
        return {}

    def run_step(self) -> None:
        names = {id(p): n for n, p in self.model.named_parameters()}
        self.seen[self.iter] = {
            names[id(p)]: {key: group[key] for key in ("lr", "weight_decay", "betas")}
            for group in self.optimizer.param_groups
            for p in group["params"]
        }
        super().run_step()


def tiny_config(folder: Path, keys: dict | None = None) -> CfgNode:
    fixed = {
        "OUTPUT_DIR": str(folder),
        "SOLVER.BEST_METRIC": "",
        "SOLVER.BASE_LR": 0.01,
        "SOLVER.WEIGHT_DECAY": 0.02,
        "SOLVER.WARMUP_ITERS": 2,
        "SOLVER.WARMUP_FACTOR": 0.25,
        "SOLVER.MAX_ITER": 8,
        "SOLVER.POLY_LR_POWER": 0.9,
        "SOLVER.POLY_LR_CONSTANT_ENDING": 0.05,
        "SOLVER.STEPS": (3, 6),
        "SOLVER.BASE_LR_END": 0.001,
        "SOLVER.CHECKPOINT_PERIOD": 4,
        "SOLVER.PARAM_RULES": RULES,
        "SOLVER.LOG_PERIOD": 1,
    }
    return smallest_cfg(fixed | (keys or {}))
