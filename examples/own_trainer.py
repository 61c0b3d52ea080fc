r"""Train and evaluate a recipe with a `DefaultTrainer` of your own.

    python tools/convert_checkpoint.py /path/to/stable-diffusion-v1-5 sd15.pkl --to detectron2
    python examples/own_trainer.py --config-file configs/cityscapes_seg.yaml --num-gpus 8 \
        MODEL.WEIGHTS sd15.pkl

Detectron2 reads the config, builds the model, trains, saves and resumes. The recipe's mapper,
learning rates and evaluators come from this package.
"""

from detectron2.config import get_cfg
from detectron2.data import build_detection_test_loader, build_detection_train_loader
from detectron2.engine import DefaultTrainer, default_argument_parser, default_setup, launch

from metaprompt_d2 import add_metaprompt_config
from metaprompt_d2.data import build_mapper
from metaprompt_d2.engine import build_lr_scheduler, build_optimizer
from metaprompt_d2.evaluation import MergedEvaluators, build_evaluators


class Trainer(DefaultTrainer):
    """`DefaultTrainer` with the mapper, learning rates and evaluators of a recipe."""

    build_optimizer = staticmethod(build_optimizer)
    build_lr_scheduler = staticmethod(build_lr_scheduler)

    @classmethod
    def build_train_loader(cls, cfg):
        return build_detection_train_loader(cfg, mapper=build_mapper(cfg, is_train=True))

    @classmethod
    def build_test_loader(cls, cfg, dataset_name):
        mapper = build_mapper(cfg, is_train=False)
        return build_detection_test_loader(cfg, dataset_name, mapper=mapper)

    @classmethod
    def build_evaluator(cls, cfg, dataset_name):
        return MergedEvaluators(build_evaluators(cfg, dataset_name))


def main(args):
    cfg = get_cfg()
    add_metaprompt_config(cfg)
    cfg.merge_from_file(args.config_file)
    cfg.merge_from_list(args.opts)
    default_setup(cfg, args)
    trainer = Trainer(cfg)
    trainer.resume_or_load(resume=args.resume)
    return Trainer.test(cfg, trainer.model) if args.eval_only else trainer.train()


if __name__ == "__main__":
    arguments = default_argument_parser().parse_args()
    launch(main, arguments.num_gpus, args=(arguments,), dist_url=arguments.dist_url)
