"""Train or evaluate a model of this package, with Detectron2's own command line.

    python tools/train_net.py --config-file configs/cityscapes_seg.yaml --num-gpus 8
    python tools/train_net.py --config-file configs/cityscapes_seg.yaml --eval-only \
        MODEL.WEIGHTS output/model_final.pth

Without GPUs, `--num-gpus N` starts N CPU processes.
"""

import argparse

from detectron2.engine import default_argument_parser

import metaprompt_d2  # noqa: F401  (fills the registries)
from metaprompt_d2.engine import SafeCheckpointer, Trainer, launch_main, setup


def main(args: argparse.Namespace) -> dict | None:
    """One process of the run; returns the figures of the evaluation on the main process."""
    cfg = setup(args)
    if args.eval_only:
        model = Trainer.build_model(cfg)
        checkpointer = SafeCheckpointer.of_config(cfg, model)
        checkpointer.resume_or_load(cfg.MODEL.WEIGHTS, resume=args.resume)
        return Trainer.test(cfg, model)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return trainer.train()


if __name__ == "__main__":
    launch_main(main, default_argument_parser(epilog=__doc__).parse_args())
