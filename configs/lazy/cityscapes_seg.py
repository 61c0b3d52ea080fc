"""configs/cityscapes_seg.yaml."""

from detectron2.config import LazyCall as L

from metaprompt_d2.evaluation import DistributedCityscapesSemSegEvaluator

from .common.data import multi_scale
from .common.data import sem_seg as dataloader
from .common.models import segmentor as model
from .common.optim import optimizer
from .common.optim import warmup_poly as lr_multiplier
from .common.train import train

dataloader.train.dataset.names = ["cityscapes_fine_sem_seg_train"]
dataloader.test.dataset.names = "cityscapes_fine_sem_seg_val"
dataloader.evaluator.evaluators.insert(
    0,
    L(DistributedCityscapesSemSegEvaluator)(dataset_name="${dataloader.test.dataset.names}"),
)

tta = multi_scale([[2 * short, short] for short in (512, 768, 1024, 1280, 1536, 1792, 2048)])

optimizer.update(lr=8e-5, weight_decay=0.001)
optimizer.params.rules = [
    [r"\.lora_", 1.0, 1.0],
    [r"\.unet\..*attentions\..*norm", 1.0, 0.0],
    [r"\.unet\.", 0.1, 1.0],
]

train.update(max_iter=80000, eval_period=8000, output_dir="output/lazy/cityscapes_seg")
train.checkpointer.period = 8000
