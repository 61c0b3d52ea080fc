"""configs/mapillary_pretrain_seg.yaml."""

from metaprompt_d2.evaluation import CheckedSemSegEvaluator

from .cityscapes_seg import dataloader, lr_multiplier, model, optimizer, train, tta
from .common.data import evaluators

model.backbone.refinement.num_steps = 1

dataloader.train.dataset.names = ["mapillary_cityscapes_sem_seg_train"]
dataloader.test.dataset.names = "mapillary_cityscapes_sem_seg_val"
dataloader.train.total_batch_size = 16
dataloader.evaluator = evaluators(CheckedSemSegEvaluator)

optimizer.lr = 1.6e-4

train.update(max_iter=160000, output_dir="output/lazy/mapillary_pretrain_seg")
