"""Setup, training, optimizer, schedules and checkpoints."""

from .checkpointer import SafeCheckpointer
from .ema import WeightAverage
from .frozen_weights import convert_frozen_weights
from .launch import launch_main
from .lazy import LazyTrainer, evaluate_lazy, load_lazy_config
from .optimizer import build_optimizer, group_parameters, optimizer_groups
from .run import (
    load_model,
    train_or_evaluate,
    train_or_evaluate_lazy,
    training_argument_parser,
)
from .schedule import RiseAndFallPoly, WarmupPoly, build_lr_scheduler
from .setup import load_config, parse_arguments, setup
from .stop import TrainingStopped
from .train_loop import NonFiniteLossError, TrainLoop
from .trainer import Trainer, training_settings

__all__ = [
    "LazyTrainer",
    "NonFiniteLossError",
    "RiseAndFallPoly",
    "SafeCheckpointer",
    "TrainLoop",
    "Trainer",
    "TrainingStopped",
    "WarmupPoly",
    "WeightAverage",
    "build_lr_scheduler",
    "build_optimizer",
    "convert_frozen_weights",
    "evaluate_lazy",
    "group_parameters",
    "launch_main",
    "load_config",
    "load_lazy_config",
    "load_model",
    "optimizer_groups",
    "parse_arguments",
    "setup",
    "train_or_evaluate",
    "train_or_evaluate_lazy",
    "training_argument_parser",
    "training_settings",
]
