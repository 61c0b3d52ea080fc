"""Training features by their names in docs/training.md, and tiny trainings with them."""

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from detectron2.utils import comm
from helpers import TWO_LEVELS, registered_cityscapes, smallest_cfg, write_cityscapes

from metaprompt_d2.engine import Trainer

DIFFUSION, SOLVER = "MODEL.DIFFUSION.", "SOLVER."

FEATURES = {
    "fp16": {SOLVER + "AMP.ENABLED": True, SOLVER + "AMP.DTYPE": "float16"},
    "bf16": {SOLVER + "AMP.ENABLED": True, SOLVER + "AMP.DTYPE": "bfloat16"},
    "checkpointing": {DIFFUSION + "GRADIENT_CHECKPOINTING": True},
    "of levels": {
        DIFFUSION + "GRADIENT_CHECKPOINTING": True,
        DIFFUSION + "GRADIENT_CHECKPOINTING_LEVELS": (1,),
    },
    "accumulation": {SOLVER + "ACCUMULATION_STEPS": 2},
    "clipping": {
        SOLVER + "CLIP_GRADIENTS.ENABLED": True,
        SOLVER + "CLIP_GRADIENTS.CLIP_TYPE": "full_model",
        SOLVER + "CLIP_GRADIENTS.CLIP_VALUE": 1.0,
    },
    "EMA": {SOLVER + "EMA.ENABLED": True},
    "layer decay": {SOLVER + "UNET_LAYER_DECAY": 0.9},
    "LoRA": {DIFFUSION + "LORA.RANK": 2},
    "frozen UNet": {DIFFUSION + "FREEZE_UNET": True},
    "converted": {SOLVER + "AMP.ENABLED": True, SOLVER + "AMP.CONVERT_FROZEN": True},
}

# Every pair of features that combines occurs in one of these.
COMBINATIONS = [
    (
        "fp16",
        "checkpointing",
        "accumulation",
        "clipping",
        "EMA",
        "layer decay",
        "LoRA",
        "converted",
    ),
    ("bf16", "of levels", "accumulation", "clipping", "EMA", "layer decay", "LoRA"),
    ("fp16", "of levels", "accumulation", "clipping", "EMA", "frozen UNet"),
    ("bf16", "checkpointing", "accumulation", "clipping", "EMA", "frozen UNet"),
    ("bf16", "of levels", "accumulation", "clipping", "EMA", "frozen UNet", "converted"),
    ("bf16", "converted"),  # only the VAE's weights
]

# Every feature occurs in one of these.
IN_TWO_PROCESSES = [
    ("bf16", "of levels", "accumulation", "clipping", "EMA", "layer decay", "LoRA", "converted"),
    ("fp16", "checkpointing", "accumulation", "clipping", "EMA", "frozen UNet"),
]

SMALL = {
    "INPUT.MIN_SIZE_TRAIN": (64,),
    "INPUT.MAX_SIZE_TRAIN": 128,
    "INPUT.CROP.SIZE": [64, 64],
    "INPUT.CROP.SINGLE_CATEGORY_MAX_AREA": 1.0,
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 19,
    "MODEL.SEM_SEG_HEAD.DROPOUT": 0.3,
    "DATALOADER.NUM_WORKERS": 0,
    "DATASETS.TEST": (),
    "SOLVER.IMS_PER_BATCH": 4,
    "SOLVER.WARMUP_ITERS": 0,
    "SOLVER.MAX_ITER": 2,
    "SOLVER.CHECKPOINT_PERIOD": 1,
    "SOLVER.LOG_PERIOD": 1,
    "SOLVER.BEST_METRIC": "",
    "TEST.EVAL_PERIOD": 0,
}


def settings(features: Iterable[str]) -> dict:
    """Merge the config overrides of features."""
    return {key: value for name in features for key, value in FEATURES[name].items()}


def train(
    features: Iterable[str],
    data: Path,
    folder: Path,
    *,
    resume: bool = False,
    overrides: dict | None = None,
) -> Trainer:
    """Train two updates on the data of `write_cityscapes`; with `resume` only the second one."""
    with registered_cityscapes(data) as name:
        overrides = SMALL | TWO_LEVELS | settings(features) | (overrides or {})
        overrides |= {"DATASETS.TRAIN": (name,), "OUTPUT_DIR": str(folder)}
        torch.manual_seed(0)
        trainer = Trainer(smallest_cfg(overrides))
        trainer.resume_or_load(resume=resume)
        assert trainer.start_iter == int(resume)
        scaler = trainer.grad_scaler
        if scaler.is_enabled() and not resume:
            # The usual 2**16 overflows at first, and the scaler skips such steps.
            scaler.load_state_dict(scaler.state_dict() | {"scale": 8.0})
        trainer.train()
    return trainer


def train_twice(
    features: Iterable[str], data: Path, folder: Path, overrides: dict | None = None
) -> tuple[Trainer, Trainer]:
    """Train two updates at once, and again the second one from the checkpoint of the first."""
    whole = train(features, data, folder / "whole", overrides=overrides)
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
    (folder / "parts").mkdir(exist_ok=True)
    first = folder / "whole/model_0000000.pth"
    (folder / "parts" / first.name).write_bytes(first.read_bytes())
    (folder / "parts/last_checkpoint").write_text("model_0000000.pth")
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
    return whole, train(features, data, folder / "parts", resume=True, overrides=overrides)


def train_and_resume(features: Iterable[str], data: Path, folder: Path) -> float:
    """Check that two updates at once and one by one end equally and move only what is trained.

    Returns:
        The last loss.
    """
    whole, parts = train_twice(features, data, folder)
    assert_equal(whole.checkpointer.model.state_dict(), parts.checkpointer.model.state_dict())
    assert_equal(whole.state_dict(), parts.state_dict())
    if "EMA" in features:
        assert_equal(whole.average.state_dict(), parts.average.state_dict())
    after_one = torch.load(folder / "whole/model_0000000.pth", weights_only=True)["model"]
    model = whole.checkpointer.model
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, after_one[n])}
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert moved <= trained
    assert len(moved) > 0.8 * len(trained)
    num_states = len(whole.optimizer.state_dict()["state"])
    assert num_states == len(trained)
    loss = whole.storage.latest()["total_loss"]
    assert loss == parts.storage.latest()["total_loss"]
    return loss[0]


def assert_equal(one: object, other: object, path: str = "") -> None:
    """Check that values are equal to the bit, within dicts and lists too."""
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, other), path
    elif isinstance(one, dict):
        assert one.keys() == other.keys(), path
        for key in one:
            assert_equal(one[key], other[key], f"{path}/{key}")
    elif isinstance(one, list | tuple):
        assert len(one) == len(other), path
        for index, values in enumerate(zip(one, other, strict=True)):
            assert_equal(*values, f"{path}/{index}")
    else:
        assert one == other, path


def train_all_in_a_process(data: Path, folder: Path) -> None:
    """Train all features in one of several processes, and write the last losses to a file."""
    torch.set_num_threads(1)
    losses = [
        train_and_resume(features, data, folder / str(number))
        for number, features in enumerate(IN_TWO_PROCESSES)
    ]
    (folder / f"losses_{comm.get_rank()}.json").write_text(json.dumps(losses))


def make_data(folder: Path) -> Path:
    write_cityscapes(folder, num_images=4, height=64, width=128)
    return folder
