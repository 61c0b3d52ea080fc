r"""Write a trained model as one file that runs without Detectron2 and this package.

    python tools/export_model.py --config-file configs/cityscapes_seg.yaml --output seg.onnx \
        --image-size 512 1024 --check MODEL.WEIGHTS output/cityscapes_seg/model_best.pth
    python tools/export_model.py --config-file configs/nyu_depth.yaml --output depth.pt2 \
        --image-size 480 640 --dynamic-size --dynamic-batch MODEL.WEIGHTS depth.pth

The suffix of the output chooses the format: `.onnx` (with weights in `.onnx.data`) or `.pt2`, a
program of torch.export. docs/export.md describes inputs and outputs.
"""

import argparse
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from metaprompt_d2 import build_model, get_config
from metaprompt_d2.data import build_keypoint_schema
from metaprompt_d2.export import (
    SAVERS,
    ExportableModel,
    export_program,
    measure_difference,
)
from metaprompt_d2.utils.errors import InputError, one_line_errors

OUTPUTS = {
    "sem_seg": "logits (N, classes, H, W)",
    "depth": "meters (N, H, W)",
    "pose": "heatmaps (N, keypoints, H / stride, W / stride)",
    "universal": "class logits (N, queries, K + 1), mask logits (N, queries, H, W)",
}


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse and check the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--config-file", required=True, help="a file, or a name such as cityscapes_seg.yaml"
    )
    parser.add_argument("--output", type=Path, required=True, help="file ending in .onnx or .pt2")
    parser.add_argument(
        "--image-size",
        type=int,
        nargs=2,
        metavar=("HEIGHT", "WIDTH"),
        help="default: window size for segmentation, crop size for pose; required for depth",
    )
    parser.add_argument("--batch-size", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--dynamic-size", action="store_true", help="accept other image sizes")
    parser.add_argument("--dynamic-batch", action="store_true", help="accept 1 to 32 images")
    parser.add_argument("--argmax", action="store_true", help="segmentation: classes, not logits")
    parser.add_argument("--check", action="store_true", help="compare the file with the model")
    parser.add_argument("opts", nargs=argparse.REMAINDER, help="config keys and values")
    args = parser.parse_args(argv)
    if args.output.suffix not in SAVERS:
        parser.error(f"--output {args.output} must end in one of {', '.join(SAVERS)}")
    if not args.output.parent.is_dir():
        parser.error(f"the folder of {args.output} does not exist")
    if args.batch_size < 1 or min(args.image_size or [1]) < 1:
        parser.error("--batch-size and --image-size must be at least 1")
    return args


def choose_image_size(args: argparse.Namespace, cfg: CfgNode, task: str) -> tuple[int, int]:
    """Take the image size from the command line or from the config.

    Raises:
        InputError: If neither has it, or if crops would have another size than the config's.
    """
    defaults = {"sem_seg": cfg.TEST.SLIDING_WINDOW.SIZE, "pose": cfg.INPUT.PERSON_CROP.SIZE}
    size = tuple(args.image_size or defaults.get(task, ()))
    if not size:
        raise InputError(f"a {task} model needs --image-size HEIGHT WIDTH")
    if task == "pose" and size != tuple(cfg.INPUT.PERSON_CROP.SIZE):
        raise InputError(
            f"--image-size is {size}, INPUT.PERSON_CROP.SIZE {tuple(cfg.INPUT.PERSON_CROP.SIZE)}"
        )
    return size


def describe(cfg: CfgNode, model: ExportableModel) -> dict:
    """Build the file's metadata."""
    about = {
        "task": model.task,
        "input": f"{cfg.INPUT.FORMAT} (N, 3, H, W) float32, 0..255",
        "output": "classes (N, H, W)" if model.argmax else OUTPUTS[model.task],
    }
    if model.task in ("sem_seg", "universal") and cfg.DATASETS.TEST:
        metadata = MetadataCatalog.get(cfg.DATASETS.TEST[0])
        for names in (metadata.get(key, []) for key in ("thing_classes", "stuff_classes")):
            if len(names) == cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES:
                about["classes"] = names
    if model.task == "pose":
        about["keypoints"] = list(build_keypoint_schema(cfg).names)
    return about


@one_line_errors()
def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    args = parse_arguments(argv)
    cfg = get_config(args.config_file, args.opts)
    model = ExportableModel(build_model(cfg), argmax=args.argmax, dynamic_size=args.dynamic_size)
    size = choose_image_size(args, cfg, model.task)
    program = export_program(
        model,
        size,
        batch_size=args.batch_size,
        dynamic_batch=args.dynamic_batch,
    )
    SAVERS[args.output.suffix](program, args.output, describe(cfg, model))
    print("wrote", args.output)
    if args.check:
        furthest, largest = measure_difference(args.output, model, (args.batch_size, 3, *size))
        print(f"largest difference from the model: {furthest:.3g}, of values up to {largest:.3g}")


if __name__ == "__main__":
    main()
