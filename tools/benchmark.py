r"""Measure the time, memory and outputs of several ways to run a config's model.

    python tools/benchmark.py --config-file configs/mini/cityscapes_seg.yaml
    python tools/benchmark.py --config-file configs/cityscapes_seg.yaml --size 512 512 \
        --variant "all, float32" --variant "all, bf16"
    python tools/benchmark.py --config-file configs/mini/kitti_depth.yaml --train --data
    python tools/benchmark.py --config-file configs/mini/coco_pose.yaml --sweep --plot scaling.png

All variants start with the same weights (those of the config, or random ones) and are timed in
turns. `plain` is the official code's arithmetic: eager, float32, attention that stores the N x N
matrix, channels outermost, one window at a time. docs/performance.md explains the columns.
"""

import argparse
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch
from benchmarking.loading import loader_rate
from benchmarking.machine import describe, matmul_ceiling
from benchmarking.measure import Workload, measure
from benchmarking.parts import time_parts
from benchmarking.plot import draw_sweep
from benchmarking.report import markdown, rows
from benchmarking.sweep import measure_sweep
from benchmarking.variants import EXACT, Variant, inference_variants, training_variants
from detectron2.config import CfgNode
from torch import nn

import metaprompt_d2  # noqa: F401  (fills the registries)
from metaprompt_d2.engine import load_config, load_model
from metaprompt_d2.modeling import MetaPromptBackbone
from metaprompt_d2.utils.errors import InputError, one_line_errors
from metaprompt_d2.utils.tasks import find_task


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse and check the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--config-file", required=True)
    parser.add_argument(
        "--size", type=int, nargs=2, metavar=("H", "W"), help="default: the crop size"
    )
    parser.add_argument("--batch-size", type=int, help="default: 1, in training 2")
    parser.add_argument("--rounds", type=int, default=3, help="turns per variant, %(default)s")
    parser.add_argument(
        "--variant",
        action="append",
        help="run it and plain, may be repeated; default: all, in a sweep those called all",
    )
    parser.add_argument(
        "--exact", action="store_true", help="compare predictions with float64's, not with plain's"
    )
    parser.add_argument("--compile", action="store_true", help="measure torch.compile, too")
    parser.add_argument("--train", action="store_true", help="measure training steps, too")
    parser.add_argument("--no-inference", action="store_true", help="don't measure predictions")
    parser.add_argument("--data", action="store_true", help="measure the training loader, too")
    parser.add_argument(
        "--sweep",
        action="store_true",
        help="vary pixels up to the size, steps, images and prompts, one at a time",
    )
    parser.add_argument("--plot", type=Path, metavar="PNG", help="draw the sweep")
    parser.add_argument("--output-dir", type=Path, help="for benchmark.md and benchmark.json")
    parser.add_argument("opts", nargs="*", default=[], help="config keys and values")
    args = parser.parse_intermixed_args(argv)
    for name in ("batch_size", "rounds"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    if args.exact and args.no_inference:
        parser.error("--exact compares predictions, which --no-inference leaves out")
    if args.plot is not None and not args.sweep:
        parser.error("--plot draws a sweep: give --sweep, too")
    return args


def default_size(cfg: CfgNode) -> tuple[int, int]:
    """Give the (height, width) that the model is trained on.

    Raises:
        InputError: The config only has a relative size.
    """
    is_pose = find_task(cfg) == "pose"
    key = "INPUT.PERSON_CROP" if is_pose else "INPUT.CROP"
    height, width = cfg.INPUT.PERSON_CROP.SIZE if is_pose else cfg.INPUT.CROP.SIZE
    if min(height, width) <= 1:
        raise InputError(f"{key}.SIZE is ({height}, {width}), a share of the image: give --size")
    return int(height), int(width)


def check_names(names: Sequence[str], device: torch.device, *, compiled: bool) -> None:
    """Check the names of variants.

    Raises:
        InputError: A name is unknown.
    """
    variants = [
        *inference_variants(device, compiled=compiled),
        *training_variants(device, compiled=compiled),
    ]
    known = list(dict.fromkeys(variant.name for variant in variants))
    unknown = [name for name in names if name not in known]
    if unknown:
        raise InputError(f"--variant {unknown}: expected some of {known}")


def chosen(variants: list[Variant], names: Sequence[str] | None) -> list[Variant]:
    """Select `plain` and the variants with these names; all variants if there are no names."""
    return [v for v in variants if names is None or v.name in {"plain", *names}]


def ceilings(device: torch.device, variants: Sequence[Variant]) -> dict[torch.dtype, float]:
    """Measure the FLOP/s of a large matrix product in the types that variants compute in."""
    dtypes = {variant.computes_in for variant in variants}
    return {dtype: matmul_ceiling(device, dtype) for dtype in sorted(dtypes, key=str)}


def compare(
    cfg: CfgNode, model: nn.Module, variants: list[Variant], work: Workload, rounds: int
) -> dict:
    """Compare variants: a section of the report."""
    device = next(model.parameters()).device
    limits = ceilings(device, variants)
    results = measure(cfg, model, variants, work, rounds=rounds)
    return {
        "train": work.train,
        "size": work.size,
        "batch_size": work.batch_size,
        "tflop": sum(result.flops for result in results) / 1e12,
        "ceilings_tflops": {str(dtype)[6:]: limit / 1e12 for dtype, limit in limits.items()},
        "variants": rows(results, limits, work.batch_size),
    }


def parts_of(
    cfg: CfgNode, model: nn.Module, variants: Sequence[Variant], work: Workload
) -> dict[str, dict[str, float]]:
    """Measure the seconds per part of the most telling eager variants, if the backbone is ours."""
    columns: dict[str, dict[str, float]] = {}
    if not any(isinstance(module, MetaPromptBackbone) for module in model.modules()):
        return columns
    for variant in variants:
        if variant.name in ("plain", "official-gpu", "all, float32", "all, bf16"):
            clone = variant.applied_to(model)
            with variant.running(), suppress(torch.OutOfMemoryError):
                columns[variant.name] = time_parts(clone, work.call(cfg, clone, variant))
            del clone
    return columns


def loaded_model(cfg: CfgNode) -> nn.Module:
    """Load the config's model; without MODEL.WEIGHTS, draw heads such that outputs vary."""
    torch.manual_seed(0)
    model = load_model(cfg, optimize=False, require_weights=False).eval()
    for name, child in model.named_children() if not cfg.MODEL.WEIGHTS else ():
        for parameter in child.parameters() if name != "backbone" else ():
            if parameter.ndim == 4:
                nn.init.kaiming_normal_(parameter)
    return model


def run(args: argparse.Namespace) -> dict:
    """Measure everything that the command line asks for."""
    # Variants, not keys, decide how the model runs.
    cfg = load_config(args.config_file, [*args.opts, "TEST.AMP.ENABLED", False])
    report: dict = {"config": args.config_file, "opts": args.opts}
    device = torch.device(cfg.MODEL.DEVICE)
    check_names(args.variant or (), device, compiled=args.compile)
    report["machine"] = describe(device)
    model = None if args.no_inference and not args.train else loaded_model(cfg)
    size = tuple(args.size or default_size(cfg))
    if not args.no_inference:
        work = Workload(train=False, batch_size=args.batch_size or 1, size=size)
        variants = inference_variants(device, compiled=args.compile)
        variants = chosen(variants, args.variant)
        if args.exact:
            variants.insert(0, EXACT)
        report["inference"] = compare(cfg, model, variants, work, args.rounds)
        report["inference"]["parts"] = parts_of(cfg, model, variants, work)
    if args.train:
        work = Workload(train=True, batch_size=args.batch_size or 2, size=size)
        variants = training_variants(device, compiled=args.compile)
        variants = chosen(variants, args.variant)
        report["training"] = compare(cfg, model, variants, work, args.rounds)
    if args.sweep:
        variants = inference_variants(device, compiled=args.compile)
        variants = chosen(variants, args.variant or ["all, float32", "all, bf16"])
        report["sweep"] = measure_sweep(cfg, variants, size, args.rounds)
    if args.data:
        report["data"] = loader_rate(cfg, seconds=10.0)
    return report


@one_line_errors()
def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    args = parse_arguments(argv)
    report = run(args)
    text = markdown(report)
    print(text)
    if args.output_dir is not None:
        args.output_dir.mkdir(parents=True, exist_ok=True)
        (args.output_dir / "benchmark.md").write_text(text)
        (args.output_dir / "benchmark.json").write_text(json.dumps(report, indent=2))
    if args.plot is not None:
        draw_sweep(report["sweep"], args.plot)


if __name__ == "__main__":
    main()
