"""LazyConfigs: FCOS, compared with its YAML file, and our heads on Detectron2's ViT."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from coco_files import CocoNames
from descriptions import describe
from detectron2.config import CfgNode, instantiate
from detectron2.modeling import SimpleFeaturePyramid, build_model
from detectron2.modeling.meta_arch.fcos import FCOS
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from helpers import SMALLEST
from omegaconf import DictConfig

from metaprompt_d2.config import CONFIG_ROOT
from metaprompt_d2.engine import LazyTrainer, build_optimizer, load_config, load_lazy_config
from metaprompt_d2.engine.ema import load_averages

SMALL_VIT = """
    model.backbone.net.img_size=64 model.backbone.net.embed_dim=16 model.backbone.net.depth=2
    model.backbone.net.num_heads=2 model.backbone.net.window_block_indexes=[0]
    model.backbone.net.window_size=2 model.backbone.out_channels=16 train.init_checkpoint=''
""".split()
VIT = {
    "cityscapes_seg_vit": (
        "stuff",
        "sem_seg",
        """
        model.sem_seg_head.num_classes=3 model.sem_seg_head.conv_dim=8 model.window_size=null
        dataloader.train.mapper.augmentations.0.long_side=96
        dataloader.train.mapper.augmentations.0.short_side=64
        dataloader.train.mapper.augmentations.1.crop_size=[64,64]
        dataloader.train.mapper.augmentations.4.size=[64,64]
        dataloader.test.mapper.augmentations.0.long_side=96
        dataloader.test.mapper.augmentations.0.short_side=64
        """,
    ),
    "coco_pose_vit": (
        "topdown",
        "keypoints",
        """
        model.codec.crop_size=[64,64] model.codec.heatmap_size=[16,16]
        model.heatmap_head.deconv_dims=[8,8]
        """,
    ),
    "kitti_depth_vit": (
        "depth",
        "depth",
        """
        model.depth_head.deconv_dims=[8,8,8] model.depth_head.conv_dim=8 model.num_windows=0
        dataloader.train.mapper.augmentations.2.size=[64,64]
        """,
    ),
}
SMALL_FCOS = """
    model.backbone.bottom_up.latent_encoder.block_out_channels=[4,8,8,8]
    model.backbone.bottom_up.latent_encoder.layers_per_block=1
    model.backbone.bottom_up.latent_encoder.norm_num_groups=4
    model.backbone.bottom_up.refinement.unet.block_out_channels=[8,16,16,16]
    model.backbone.bottom_up.refinement.unet.layers_per_block=1
    model.backbone.bottom_up.refinement.unet.cross_attention_dim=16
    model.backbone.bottom_up.refinement.unet.num_heads=2
    model.backbone.bottom_up.refinement.unet.norm_num_groups=4
    model.backbone.bottom_up.refinement.meta_prompts.num_prompts=6 model.num_classes=1
    dataloader.train.mapper.augmentations.0.short_edge_length=[64]
    dataloader.test.mapper.augmentations.0.short_edge_length=64
""".split()
SHORT = "train.max_iter=2 train.device=cpu dataloader.train.total_batch_size=2".split()
SHORT += "dataloader.train.num_workers=0 dataloader.test.num_workers=0 train.log_period=1".split()


def run(name: str, dataset: str, output_dir: Path, overrides: list[str]) -> LazyTrainer:
    """Train as `tools/lazyconfig_train_net.py` does in a process."""
    trainer = built(name, dataset, output_dir, overrides)
    trainer.resume_or_load(resume=False)
    trainer.train()
    assert np.isfinite(trainer.storage.latest()["total_loss"][0])
    return trainer


def built(
    name: str,
    dataset: str,
    output_dir: Path,
    overrides: list[str],
    folder: str = "metaprompt_d2://lazy/compose",
) -> LazyTrainer:
    data = [f"dataloader.train.dataset.names={dataset}", f"dataloader.test.dataset.names={dataset}"]
    cfg = load_lazy_config(
        f"{folder}/{name}.py",
        [*SHORT, *data, f"train.output_dir={output_dir}", *overrides],
    )
    if kind := cfg.dataloader.evaluator.get("evaluators"):  # the dataset isn't Cityscapes
        kind[:] = [part for part in kind if "Cityscapes" not in str(part._target_)]
    return LazyTrainer(cfg)


def test_every_file_is_tested() -> None:
    files = {file.stem for file in (CONFIG_ROOT / "lazy/compose").glob("*.py")}
    assert files == {*VIT, "fcos"}


def test_fcos_trains_the_prompts_and_is_evaluated(coco: CocoNames, tmp_path: Path) -> None:
    trainer = run("fcos", coco.people, tmp_path, SMALL_FCOS)
    assert "bbox/AP" in trainer.storage.latest()
    assert list(trainer.model.backbone.output_shape()) == ["p3", "p4", "p5", "p6", "p7"]
    assert trainer.model.backbone.size_divisibility == 64
    (prompts,) = trainer.model.backbone.bottom_up.refinement.meta_prompts.embeddings
    assert trainer.optimizer.state[prompts]["exp_avg"].abs().max() > 0


def test_a_config_of_detectron2_trains_and_is_evaluated(coco: CocoNames, tmp_path: Path) -> None:
    """It has none of this package's keys in `train`."""
    small = """
        train.init_checkpoint='' model.num_classes=1 train.eval_period=2 train.seed=1
        dataloader.train.mapper.augmentations.0.short_edge_length=[64]
        dataloader.test.mapper.augmentations.0.short_edge_length=64
    """.split()
    folder = "model_zoo://COCO-Detection"
    trainer = built("fcos_R_50_FPN_1x", coco.people, tmp_path, small, folder)
    trainer.train()
    assert np.isfinite(trainer.storage.latest()["total_loss"][0])
    assert "bbox/AP" in trainer.storage.latest()
    assert (tmp_path / "model_final.pth").is_file()


@pytest.fixture(scope="module")
def fcos_configs() -> tuple[CfgNode, DictConfig]:
    sizes = SMALLEST | {"MODEL.META_PROMPT.REFINE_STEPS": 3, "MODEL.RETINANET.NUM_CLASSES": 1}
    pairs = [part for pair in sizes.items() for part in pair]
    cfg = load_config("metaprompt_d2://compose/fcos.yaml", [*pairs, "MODEL.DEVICE", "cpu"])
    return cfg, load_lazy_config("metaprompt_d2://lazy/compose/fcos.py", SMALL_FCOS)


@pytest.fixture(scope="module")
def fcos_pair(fcos_configs: tuple[CfgNode, DictConfig]) -> tuple[FCOS, FCOS]:
    """The model of the YAML file and that of the LazyConfig, with the same weights."""
    cfg, lazy = fcos_configs
    models = build_model(cfg), instantiate(lazy.model)
    models[1].load_state_dict(models[0].state_dict())
    return models


def test_fcos_from_yaml_and_from_a_lazyconfig_are_identical(fcos_pair: tuple[FCOS, FCOS]) -> None:
    one, other = fcos_pair
    assert (type(one).__name__, type(other)) == ("ConfigurableFCOS", FCOS)
    assert describe(one)[1:] == describe(other)[1:]
    assert one.pixel_mean.equal(other.pixel_mean) and one.pixel_std.equal(other.pixel_std)
    for cells in zip(*(model.anchor_generator.cell_anchors for model in fcos_pair), strict=True):
        assert cells[0].equal(cells[1])


def test_fcos_from_yaml_has_the_lazyconfigs_losses_and_boxes(
    fcos_pair: tuple[FCOS, FCOS],
) -> None:
    people = Instances((64, 96))
    people.gt_boxes = Boxes(torch.tensor([[8.0, 4.0, 30.0, 60.0], [40.0, 0.0, 90.0, 64.0]]))
    people.gt_classes = torch.zeros(2, dtype=torch.long)
    image = torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(0)) * 255
    with EventStorage():
        losses = [model.train()([{"image": image, "instances": people}]) for model in fcos_pair]
    assert losses[0].keys() == {"loss_fcos_cls", "loss_fcos_loc", "loss_fcos_ctr"}
    assert losses[0] == losses[1]
    found = []
    for model in fcos_pair:
        model.test_score_thresh = 0.0  # an untrained model has low scores
        with torch.no_grad():
            found.append(model.eval()([{"image": image}])[0]["instances"])
    assert len(found[0]) > 10
    assert found[0].pred_boxes.tensor.equal(found[1].pred_boxes.tensor)
    assert found[0].scores.equal(found[1].scores)


def test_fcos_from_yaml_is_optimized_as_from_the_lazyconfig(
    fcos_configs: tuple[CfgNode, DictConfig], fcos_pair: tuple[FCOS, FCOS]
) -> None:
    cfg, lazy = fcos_configs
    lazy = copy.deepcopy(lazy)
    lazy.optimizer.params.model = fcos_pair[1]
    optimizers = build_optimizer(cfg, fcos_pair[0]), instantiate(lazy.optimizer)
    groups = []
    for model, optimizer in zip(fcos_pair, optimizers, strict=True):
        names = {parameter: name for name, parameter in model.named_parameters()}
        groups.append(
            [
                (group["lr"], group["weight_decay"], [names[each] for each in group["params"]])
                for group in optimizer.param_groups
            ]
        )
    assert [group[:2] for group in groups[0]] == [(1e-4, 0.05), (pytest.approx(1e-5), 0.05)]
    assert groups[0] == groups[1]


def test_adapters_and_averages_train_from_a_lazyconfig(coco: CocoNames, tmp_path: Path) -> None:
    lora = "model.backbone.bottom_up.lora={rank:2,alpha:2,targets:[to_q,to_v]}"
    trainer = run("fcos", coco.people, tmp_path, [*SMALL_FCOS, lora, "train.ema.enabled=True"])
    of_unet = [
        name
        for name, parameter in trainer.model.backbone.bottom_up.refinement.unet.named_parameters()
        if parameter.requires_grad
    ]
    assert of_unet and all(".lora_" in name for name in of_unet)
    content = torch.load(tmp_path / "model_final.pth", weights_only=True)
    assert content["ema"]["num_updates"] == 2
    other = instantiate(trainer.cfg.model)
    other.load_state_dict(content["model"])
    load_averages(other, content, "train.ema.enabled")
    name = "backbone.bottom_up.refinement.meta_prompts.embeddings.0"
    assert other.get_parameter(name).equal(content["ema"]["averages"][name])


def test_frozen_weights_are_converted_by_a_lazyconfig(coco: CocoNames, tmp_path: Path) -> None:
    half = ["train.amp.dtype=bfloat16", "train.amp.convert_frozen=True"]
    frozen = [*SMALL_FCOS, "model.backbone.bottom_up.freeze_unet=True", *half]
    with pytest.raises(ValueError, match=r"train\.amp\.convert_frozen needs train\.amp\.enabled"):
        built("fcos", coco.people, tmp_path, frozen)
    trainer = built("fcos", coco.people, tmp_path, [*frozen, "train.amp.enabled=True"])
    assert trainer.model.backbone.bottom_up.refinement.unet.dtype == torch.bfloat16


@pytest.mark.parametrize("name", VIT)
def test_our_head_trains_on_detectron2s_vit_and_is_evaluated(
    name: str, coco: CocoNames, topdown: str, depth: str, tmp_path: Path
) -> None:
    kind, task, sizes = VIT[name]
    dataset = (coco._asdict() | {"topdown": topdown, "depth": depth})[kind]
    trainer = run(name, dataset, tmp_path, [*SMALL_VIT, *sizes.split()])
    assert isinstance(trainer.model.backbone, SimpleFeaturePyramid)
    assert any(key.startswith(f"{task}/") for key in trainer.storage.latest())
    trained = trainer.optimizer.state[trainer.model.backbone.net.patch_embed.proj.weight]
    assert trained["exp_avg"].abs().max() > 0
