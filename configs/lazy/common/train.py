"""How a model is trained and tested: Detectron2's own keys and this package's."""

from detectron2 import model_zoo

train = model_zoo.get_config("common/train.py").train
train.update(
    # Of random numbers and of the data's order.
    seed=42,
    # Let cuDNN choose the fastest convolutions for the sizes that it meets.
    cudnn_benchmark=False,
    # Parts in which a batch is run one after the other.
    accumulation_steps=1,
    # Clip the whole model's gradient to this norm.
    max_grad_norm=None,
    # Keep averages of the weights, evaluate and save them.
    ema=dict(enabled=False, decay=0.999),
    # Stable Diffusion to start from, where neither init_checkpoint nor --resume gives a checkpoint;
    # not strict: tensors that it lacks start at random.
    diffusion=dict(weights="", strict=True),
    # Layout and `torch.compile` mode ("" = eager) of the diffusion networks.
    speed=dict(channels_last=False, compile_mode=""),
    # Figure whose best checkpoint is kept as model_best.pth.
    best_metric=dict(name="sem_seg/mIoU", mode="max"),
)
train.amp.dtype = "float16"  # or "bfloat16"
train.amp.convert_frozen = False  # hold frozen weights of VAE and UNet in `dtype`, too
