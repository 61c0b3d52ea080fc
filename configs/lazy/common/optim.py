"""AdamW with learning rate and weight decay by rules on parameter names, and schedules."""

import torch
from detectron2.config import LazyCall as L
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import MultiStepParamScheduler

from metaprompt_d2.engine import RiseAndFallPoly, WarmupPoly, optimizer_groups

optimizer = L(torch.optim.AdamW)(
    params=L(optimizer_groups)(
        # params.model is set to the model before this is called.
        rules=[],  # (regular expression, learning rate multiplier, weight decay multiplier)
        base_lr="${..lr}",
        weight_decay="${..weight_decay}",
        decay_vectors=True,
        unet_layer_decay=1.0,
    ),
    lr=1e-4,
    weight_decay=0.05,
    fused=True,
)

warmup_poly = L(WarmupPoly)(
    power=1.0, warmup_factor=1e-6, warmup_iters=1500, num_updates="${train.max_iter}"
)

rise_and_fall = L(RiseAndFallPoly)(
    peak_at=0.48, power=0.9, floor=0.06, num_updates="${train.max_iter}"
)

# As Detectron2's: shares of the training, whatever its length.
warmup_steps = L(WarmupParamScheduler)(
    scheduler=L(MultiStepParamScheduler)(values=[1.0, 0.1, 0.01], milestones=[], num_updates=None),
    warmup_factor=0.001,
    warmup_length=0.0,
    warmup_method="linear",
)
