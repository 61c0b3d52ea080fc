r"""Convert checkpoints: official MetaPrompts to this package's format and back, and others.

    python tools/convert_checkpoint.py best_mIoU_iter_80000.pth cityscapes.pth \
        --config-out cityscapes.yaml
    python tools/train_net.py --config-file cityscapes.yaml --eval-only

`--to official` writes a file that the official code reads. `--to plain` merges adapters (LoRA) into
the weights of a training run. Both write the averages (EMA) where the input has some.

    python tools/convert_checkpoint.py output/model_best.pth plain.pth --to plain \
        --config-file output/config.yaml --config-out plain.yaml

`--to detectron2` converts Stable Diffusion (anything that MODEL.DIFFUSION.WEIGHTS takes) to a file
that other Detectron2 projects load by MODEL.WEIGHTS or train.init_checkpoint.

    python tools/convert_checkpoint.py /path/to/stable-diffusion-v1-5 sd15.pkl --to detectron2

A Mask2Former, whose input may be in any of three layouts, is written in ours by `--to ours`, in the
one that its authors publish by `--to mask2former`, and in that of transformers by
`--to transformers`.

    python tools/convert_checkpoint.py output/model_final.pth mask2former.pth --to mask2former
    python tools/convert_checkpoint.py output/model_final.pth model.safetensors --to transformers
"""

import argparse
from pathlib import Path

from converting.files import read_state_dict
from converting.mask2former import mask2former_to_ours, to_published, to_transformers
from converting.official import official_to_ours, ours_to_official
from converting.plain import to_plain
from converting.stable_diffusion import to_detectron2

from metaprompt_d2.checkpoint import MASK2FORMER_LAYOUTS, is_official, mask2former_layout
from metaprompt_d2.utils.errors import InputError, one_line_errors


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Parse and check the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("input", help="checkpoint, folder of transformers, or Stable Diffusion")
    parser.add_argument("output", type=Path, help="checkpoint to write")
    parser.add_argument(
        "--task",
        choices=("auto", "sem_seg", "depth", "universal"),
        default="auto",
        help="expected task of the checkpoint; auto accepts any",
    )
    parser.add_argument(
        "--to",
        choices=CONVERTERS,
        default="ours",
        help="format to write (default: %(default)s)",
    )
    parser.add_argument(
        "--config-file",
        type=Path,
        help="config of the training run that wrote the input, for --to plain; with --to ours it "
        "gives the values that no tensor shows, with --to detectron2 the adapters (LoRA) of the "
        "model that will load the output",
    )
    parser.add_argument(
        "--config-out",
        type=Path,
        help="YAML file to write, a config for train_net.py that runs the output",
    )
    args = parser.parse_args(argv)
    if args.to not in ("ours", "plain") and args.config_out:
        parser.error("--config-out goes with --to ours and --to plain only")
    if args.to in ("official", *MASK2FORMER_LAYOUTS) and args.config_file:
        parser.error(f"--config-file does not go with --to {args.to}")
    if args.to == "plain" and not args.config_file:
        parser.error("--to plain needs --config-file")
    if args.to == "detectron2" and args.output.suffix != ".pkl":
        parser.error(f"output is {args.output}: Detectron2 needs the ending .pkl")
    if args.to == "mask2former" and args.output.suffix in (".pkl", ".pyth"):
        parser.error(f"output is {args.output}: Detectron2 expects another format, use .pth")
    if args.to == "transformers" and args.output.suffix != ".safetensors":
        parser.error(f"output is {args.output}: transformers needs the ending .safetensors")
    if Path(args.input).resolve() == args.output.resolve():
        parser.error(f"input and output are both {args.input}")
    if not args.output.parent.is_dir():
        parser.error(f"the folder of {args.output} does not exist")
    return args


def to_ours(args: argparse.Namespace) -> None:
    """Convert a checkpoint of others to our format.

    Raises:
        InputError: It's of none that is known.
    """
    state_dict, loaded = read_state_dict(args.input)
    if is_official(state_dict):
        official_to_ours(args, state_dict, loaded)
    elif mask2former_layout(state_dict) in MASK2FORMER_LAYOUTS:
        mask2former_to_ours(args, state_dict)
    else:
        raise InputError(
            f"{args.input} has not the names of an official checkpoint, nor of Mask2Former in a "
            "layout of others"
        )


# Value of --to -> function.
CONVERTERS = {
    "ours": to_ours,
    "official": ours_to_official,
    "plain": to_plain,
    "detectron2": to_detectron2,
    "mask2former": to_published,
    "transformers": to_transformers,
}


@one_line_errors()
def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    args = parse_arguments(argv)
    CONVERTERS[args.to](args)


if __name__ == "__main__":
    main()
