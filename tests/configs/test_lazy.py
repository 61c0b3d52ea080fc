"""LazyConfigs build the models, data, optimizers, schedules and evaluators of the YAML recipes."""

import inspect
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from descriptions import describe
from detectron2.config import CfgNode, LazyConfig, instantiate
from detectron2.data import transforms as T
from detectron2.evaluation import CityscapesInstanceEvaluator
from detectron2.modeling import build_model
from detectron2.solver import LRMultiplier
from helpers import SMALLEST
from omegaconf import DictConfig
from torch import nn

from metaprompt_d2.config import CONFIG_ROOT
from metaprompt_d2.data import build_mapper
from metaprompt_d2.engine import (
    Trainer,
    build_lr_scheduler,
    build_optimizer,
    load_config,
    load_lazy_config,
)
from metaprompt_d2.evaluation import (
    CheckedSemSegEvaluator,
    DepthEvaluator,
    DistributedCityscapesSemSegEvaluator,
    PictureWriter,
    ThingsEvaluator,
    TopDownKeypointEvaluator,
)
from metaprompt_d2.evaluation.panoptic import PanopticQualityEvaluator
from metaprompt_d2.modeling import DenseModelWithTTA, with_test_time_augmentation

LAZY = CONFIG_ROOT / "lazy"
RECIPES = sorted(
    file.relative_to(LAZY).with_suffix("").as_posix()
    for folder in (LAZY, LAZY / "mini")
    for file in folder.glob("*.py")
)

EVALUATORS = (
    CheckedSemSegEvaluator,
    DepthEvaluator,
    DistributedCityscapesSemSegEvaluator,
    CityscapesInstanceEvaluator,
    PanopticQualityEvaluator,
    PictureWriter,
    ThingsEvaluator,
    TopDownKeypointEvaluator,
)

# Sizes of the smallest model, by key of both forms.
SIZES = {
    "MODEL.DIFFUSION.UNET.BLOCK_OUT_CHANNELS": "model.backbone.refinement.unet.block_out_channels",
    "MODEL.DIFFUSION.UNET.LAYERS_PER_BLOCK": "model.backbone.refinement.unet.layers_per_block",
    "MODEL.DIFFUSION.UNET.CROSS_ATTENTION_DIM": (
        "model.backbone.refinement.unet.cross_attention_dim"
    ),
    "MODEL.DIFFUSION.UNET.NUM_HEADS": "model.backbone.refinement.unet.num_heads",
    "MODEL.DIFFUSION.UNET.NORM_NUM_GROUPS": "model.backbone.refinement.unet.norm_num_groups",
    "MODEL.DIFFUSION.VAE.BLOCK_OUT_CHANNELS": "model.backbone.latent_encoder.block_out_channels",
    "MODEL.DIFFUSION.VAE.LAYERS_PER_BLOCK": "model.backbone.latent_encoder.layers_per_block",
    "MODEL.DIFFUSION.VAE.NORM_NUM_GROUPS": "model.backbone.latent_encoder.norm_num_groups",
    "MODEL.META_PROMPT.NORM_NUM_GROUPS": "model.backbone.rearrangement.norm_num_groups",
}


class Pair:
    """A recipe as YAML and as LazyConfig, with the model of each."""

    def __init__(self, name: str):
        pairs = [part for key in SIZES for part in (key, SMALLEST[key])]
        self.yaml: CfgNode = load_config(f"metaprompt_d2://{name}.yaml", pairs)
        self.lazy: DictConfig = load_lazy_config(
            f"metaprompt_d2://lazy/{name}.py",
            [f"{key}={_text(SMALLEST[yaml_key])}" for yaml_key, key in SIZES.items()],
        )
        self.yaml_model = build_model(self.yaml)
        self.lazy_model = instantiate(self.lazy.model).to(self.lazy.train.device)
        self.lazy.optimizer.params.model = self.lazy_model


def _text(value: object) -> str:
    return str(list(value)) if isinstance(value, tuple) else str(value)


@pytest.fixture(scope="module", params=RECIPES)
def pair(request: pytest.FixtureRequest) -> Pair:
    return Pair(request.param)


def test_every_recipe_has_both_forms() -> None:
    yaml = {
        file.relative_to(CONFIG_ROOT).with_suffix("").as_posix()
        for folder in (CONFIG_ROOT, CONFIG_ROOT / "mini")
        for file in folder.glob("*.yaml")
        if not file.name.startswith("Base-")
    }
    assert set(RECIPES) == yaml


def test_models_are_identical(pair: Pair) -> None:
    shapes = [
        {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
        for model in (pair.yaml_model, pair.lazy_model)
    ]
    assert shapes[0] == shapes[1]
    assert describe(pair.yaml_model) == describe(pair.lazy_model)
    for name, buffer in pair.yaml_model.named_buffers():
        if name.startswith("pixel_"):
            assert buffer.equal(pair.lazy_model.get_buffer(name))


def test_optimizers_have_the_same_groups(pair: Pair) -> None:
    optimizers = [
        build_optimizer(pair.yaml, pair.yaml_model),
        instantiate(pair.lazy.optimizer),
    ]
    groups = []
    for model, optimizer in zip((pair.yaml_model, pair.lazy_model), optimizers, strict=True):
        names = {parameter: name for name, parameter in model.named_parameters()}
        groups.append(
            [
                group | {"params": [names[parameter] for parameter in group["params"]]}
                for group in optimizer.param_groups
            ]
        )
    assert groups[0] == groups[1]
    assert type(optimizers[0]) is type(optimizers[1])
    clipping = pair.yaml.SOLVER.CLIP_GRADIENTS
    assert pair.lazy.train.max_grad_norm == (clipping.CLIP_VALUE if clipping.ENABLED else None)


def test_learning_rates_are_the_same(pair: Pair) -> None:
    count = pair.yaml.SOLVER.MAX_ITER
    assert pair.lazy.train.max_iter == count
    optimizers = [torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0) for _ in range(2)]
    multiplier = instantiate(pair.lazy.lr_multiplier)
    schedules = [
        build_lr_scheduler(pair.yaml, optimizers[0]),
        LRMultiplier(optimizers[1], multiplier=multiplier, max_iter=count),
    ]
    updates = {0, 1, 7, 499, 500, 501, 1499, 1500, count // 3, count // 2, count * 49 // 50}
    for update in sorted(update for update in updates if update < count) + [count - 1]:
        rates = []
        for schedule in schedules:
            schedule.last_epoch = update - 1
            schedule.step()
            rates.append(schedule.get_last_lr()[0])
        assert rates[0] == pytest.approx(rates[1], rel=1e-9, abs=1e-12), update


@pytest.mark.parametrize("is_train", [True, False])
def test_mappers_and_augmentations_are_the_same(pair: Pair, is_train: bool) -> None:
    loader = pair.lazy.dataloader.train if is_train else pair.lazy.dataloader.test
    mappers = build_mapper(pair.yaml, is_train=is_train), instantiate(loader.mapper)
    if is_train:
        for mapper in mappers:
            vars(mapper).pop("test_batch_size", None)
    assert describe(mappers[0]) == describe(mappers[1])


def test_data_loaders_are_the_same(pair: Pair) -> None:
    cfg, train, test = pair.yaml, pair.lazy.dataloader.train, pair.lazy.dataloader.test
    assert (*train.dataset.names,) == cfg.DATASETS.TRAIN
    assert (test.dataset.names,) == cfg.DATASETS.TEST
    assert train.total_batch_size == cfg.SOLVER.IMS_PER_BATCH
    assert train.accumulation_steps == cfg.SOLVER.ACCUMULATION_STEPS
    assert train.num_workers == test.num_workers == cfg.DATALOADER.NUM_WORKERS
    assert train.seed == cfg.SEED
    assert not cfg.DATALOADER.ASPECT_RATIO_GROUPING


def test_training_settings_are_the_same(pair: Pair) -> None:
    cfg, train = pair.yaml, pair.lazy.train
    assert train.checkpointer.period == cfg.SOLVER.CHECKPOINT_PERIOD
    assert train.eval_period == cfg.TEST.EVAL_PERIOD
    assert train.log_period == cfg.SOLVER.LOG_PERIOD
    amp = cfg.SOLVER.AMP
    assert (train.amp.enabled, train.amp.dtype) == (amp.ENABLED, amp.DTYPE)
    assert train.amp.convert_frozen == amp.CONVERT_FROZEN
    speed = cfg.MODEL.SPEED
    assert train.speed == {"channels_last": speed.CHANNELS_LAST, "compile_mode": speed.COMPILE}
    ema = cfg.SOLVER.EMA
    assert (train.ema.enabled, train.ema.decay) == (ema.ENABLED, ema.DECAY)
    assert train.cudnn_benchmark == cfg.CUDNN_BENCHMARK
    best = train.best_metric
    assert (best.name, best.mode) == (cfg.SOLVER.BEST_METRIC, cfg.SOLVER.BEST_METRIC_MODE)
    assert train.diffusion.weights == cfg.MODEL.DIFFUSION.WEIGHTS
    assert train.diffusion.strict == cfg.MODEL.DIFFUSION.STRICT
    assert train.init_checkpoint.replace("output/lazy/", "output/") == cfg.MODEL.WEIGHTS
    assert train.output_dir.replace("output/lazy/", "output/") == cfg.OUTPUT_DIR
    assert train.device == cfg.MODEL.DEVICE
    assert train.ddp.find_unused_parameters == cfg.SOLVER.FIND_UNUSED_PARAMETERS


def test_evaluators_are_the_same(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    (name,) = pair.yaml.DATASETS.TEST
    cfg = pair.yaml.clone()
    cfg.defrost()
    cfg.OUTPUT_DIR = pair.lazy.train.output_dir
    made: list[tuple] = []
    for kind in EVALUATORS:
        monkeypatch.setattr(kind, "__init__", _recorder(kind, made))
    Trainer.build_evaluator(cfg, name)
    expected = made.copy()
    made.clear()
    instantiate(pair.lazy.dataloader.evaluator)
    assert made == expected
    assert made[-1][0] is PictureWriter


def _recorder(kind: type, made: list[tuple]) -> Callable[..., None]:
    """Make a constructor that records its arguments, defaults included."""
    signature = inspect.signature(kind.__init__)

    def record(self: object, *args: object, **kwargs: object) -> None:
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        made.append((kind, {key: value for key, value in bound.arguments.items() if key != "self"}))

    return record


def test_test_time_augmentation_is_the_same(pair: Pair) -> None:
    tta = pair.lazy.get("tta")
    is_wrapped = with_test_time_augmentation(pair.yaml, pair.yaml_model) is not pair.yaml_model
    assert is_wrapped == (tta is not None and tta.enabled)
    if tta is None:
        assert not pair.yaml.TEST.AUG.MAX_SIZES
        return
    expected = DenseModelWithTTA(pair.yaml, pair.yaml_model)
    tta.model.model = pair.yaml_model
    wrapped = instantiate(tta.model)
    assert describe(expected.boxes) == describe(wrapped.boxes)
    for name in ("flip", "num_channels", "canvas_gib"):
        assert getattr(expected, name) == getattr(wrapped, name), name


def test_a_saved_config_can_be_loaded_again(tmp_path: Path) -> None:
    overrides = ["model.backbone.refinement.num_steps=2", "train.max_iter=1000"]
    cfg = load_lazy_config("metaprompt_d2://lazy/coco_pose.py", overrides)
    LazyConfig.save(cfg, str(tmp_path / "config.yaml"))
    assert [file.name for file in tmp_path.iterdir()] == ["config.yaml"]  # no pickle was needed
    again = LazyConfig.load(str(tmp_path / "config.yaml"))
    assert again.model.backbone.refinement.meta_prompts.num_steps == 2
    schedules = [instantiate(config.lr_multiplier) for config in (cfg, again)]
    assert describe(schedules[0]) == describe(schedules[1])
    assert describe(instantiate(again.dataloader.train.mapper)) == describe(
        instantiate(cfg.dataloader.train.mapper)
    )


def test_your_own_yaml_file_becomes_a_lazy_config(tmp_path: Path) -> None:
    shutil.copytree(LAZY / "common", tmp_path / "common")
    yaml = tmp_path / "mine.yaml"
    yaml.write_text("_BASE_: metaprompt_d2://nyu_depth.yaml\nSOLVER:\n  MAX_ITER: 7\n")
    lazy = tmp_path / "mine.py"
    lazy.write_text(
        "from .common.recipe import from_yaml\n"
        f"dataloader, lr_multiplier, model, optimizer, train, tta = from_yaml({str(yaml)!r})\n"
    )
    cfg = load_lazy_config(str(lazy), [])
    assert cfg.train.max_iter == cfg.lr_multiplier.num_updates == 7
    assert cfg.model.depth_head.max_depth == 10
    assert "tta" not in cfg


def test_a_misspelled_override_is_refused() -> None:
    file = "metaprompt_d2://lazy/nyu_depth.py"
    cfg = load_lazy_config(file, ["model.depth_head.loss_weight=2.0", "optimizer.betas=[0.8,0.9]"])
    assert (cfg.model.depth_head.loss_weight, cfg.optimizer.betas) == (2.0, [0.8, 0.9])
    for key in ("train.max_iters", "model.depth_head.los_weight", "modell.flip"):
        with pytest.raises(KeyError, match=rf"nyu_depth\.py has no key '{key}'"):
            load_lazy_config(file, [f"{key}=1"])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing\.py does not exist"):
        load_lazy_config(str(tmp_path / "nothing.py"), [])


def test_the_comparison_sees_a_difference() -> None:
    flips = [T.RandomFlip(prob=prob) for prob in (0.5, 0.4)]
    assert describe(flips[0]) != describe(flips[1])
    dropouts = [nn.Sequential(nn.Dropout(p)) for p in (0.1, 0.2)]
    assert describe(dropouts[0]) != describe(dropouts[1])
