"""Detectron2's `launch` for a script's arguments, on GPUs or CPU processes."""

import argparse
import os
from collections.abc import Callable

import torch
from detectron2.engine import launch

__all__ = ["launch_main"]


def launch_main(main: Callable[[argparse.Namespace], object], args: argparse.Namespace) -> None:
    """Run `main(args)` in every process that Detectron2's standard arguments ask for.

    Without GPUs, `args.num_gpus` is the number of CPU processes. They keep the number of threads
    that a single process has, so that their figures are the same, but let idle threads sleep:
    spinning ones would starve each other.

    Args:
        main: importable from its module.
        args: of `detectron2.engine.default_argument_parser`.
    """
    if args.num_gpus > 1 and not torch.cuda.is_available():
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    launch(
        main,
        args.num_gpus,
        num_machines=args.num_machines,
        machine_rank=args.machine_rank,
        dist_url=args.dist_url,
        args=(args,),
    )
