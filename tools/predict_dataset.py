r"""Write predictions of a registered dataset as PNGs and as an archive for a test server.

    python tools/predict_dataset.py --config-file configs/cityscapes_seg.yaml \
        --dataset cityscapes_fine_sem_seg_test --output results.zip \
        MODEL.WEIGHTS output/cityscapes_seg/model_best.pth TEST.AUG.ENABLED True

All other options are those of `train_net.py`.
"""

import argparse

from detectron2.engine import default_argument_parser
from detectron2.evaluation import inference_on_dataset

import metaprompt_d2  # noqa: F401  (fills the registries)
from metaprompt_d2.engine import Trainer, launch_main, load_model, parse_arguments, setup
from metaprompt_d2.evaluation import PREDICTION_FORMATS, MergedEvaluators, SemSegPredictionWriter
from metaprompt_d2.modeling import with_test_time_augmentation


def parse_command_line(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse and check the command line."""
    parser = default_argument_parser(epilog=__doc__)
    add = parser.add_argument
    add("--dataset", required=True, help="name of a registered dataset")
    add("--output", required=True, help="archive to write; PNGs go to a folder of that name")
    formats = "label ids of cityscapes, 1..150 of ade20k, or class ids; auto: by the classes"
    add("--format", choices=PREDICTION_FORMATS, default="auto", help=formats)
    add("--allow-incomplete", action="store_true", help="accept fewer images than were published")
    args = parse_arguments(parser, argv)
    if not args.output.endswith(".zip"):
        parser.error(f"--output {args.output} must end in .zip")
    return args


def main(args: argparse.Namespace) -> None:
    """Predict the dataset in one of the processes."""
    cfg = setup(args)
    loader = Trainer.build_test_loader(cfg, args.dataset)  # names missing folders first
    writer = SemSegPredictionWriter(
        args.dataset, args.output, file_format=args.format, allow_incomplete=args.allow_incomplete
    )
    model = with_test_time_augmentation(cfg, load_model(cfg, resume=args.resume))
    inference_on_dataset(model, loader, MergedEvaluators([writer]))


if __name__ == "__main__":
    launch_main(main, parse_command_line())
