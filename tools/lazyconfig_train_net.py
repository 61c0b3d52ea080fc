r"""Train or evaluate a LazyConfig, with Detectron2's own command line.

    python tools/lazyconfig_train_net.py --config-file configs/lazy/cityscapes_seg.py --num-gpus 8
    python tools/lazyconfig_train_net.py --config-file configs/lazy/cityscapes_seg.py --eval-only \
        train.init_checkpoint=output/lazy/cityscapes_seg/model_final.pth

Without GPUs, `--num-gpus N` starts N CPU processes. Bad input ends in one line;
METAPROMPT_D2_TRACEBACK=1 shows the traceback.
"""

import metaprompt_d2  # noqa: F401  (fills the registries)
from metaprompt_d2.engine import (
    launch_main,
    parse_arguments,
    train_or_evaluate_lazy,
    training_argument_parser,
)

if __name__ == "__main__":
    parser = training_argument_parser(epilog=__doc__)
    parser.add_argument(
        "--trust-config", action="store_true", help="let a YAML config call any function"
    )
    launch_main(train_or_evaluate_lazy, parse_arguments(parser))
