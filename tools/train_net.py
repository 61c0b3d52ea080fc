r"""Train or evaluate a model of this package, with Detectron2's own command line.

    python tools/train_net.py --config-file configs/cityscapes_seg.yaml --num-gpus 8
    python tools/train_net.py --config-file configs/cityscapes_seg.yaml --eval-only \
        MODEL.WEIGHTS output/model_final.pth

Without GPUs, `--num-gpus N` starts N CPU processes. Bad input ends in one line;
METAPROMPT_D2_TRACEBACK=1 shows the traceback.
"""

import metaprompt_d2  # noqa: F401  (fills the registries)
from metaprompt_d2.engine import (
    launch_main,
    parse_arguments,
    train_or_evaluate,
    training_argument_parser,
)

if __name__ == "__main__":
    launch_main(train_or_evaluate, parse_arguments(training_argument_parser(epilog=__doc__)))
