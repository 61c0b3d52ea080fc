"""The programs and configs of `examples/`, run as they are or at smaller sizes.

`detrex_dino.py` needs detrex, which is neither on PyPI nor small, so that only its Python is read.
"""

import ast
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode, LazyConfig, get_cfg, instantiate
from detectron2.modeling import build_backbone
from detectron2.structures import BitMasks, Boxes, Instances
from detectron2.utils.events import EventStorage
from mask2former_keys import add_mask2former_keys
from mini_training import SMALL, losses
from scripts import ROOT, run_script

from metaprompt_d2 import add_metaprompt_config
from metaprompt_d2.modeling import meta_prompt_backbone

EXAMPLES = ROOT / "examples"


def test_a_default_trainer_of_ones_own_trains_and_evaluates(tmp_path: Path) -> None:
    data = tmp_path / "data"
    sizes = "--num-train 2 --num-val 1 --height 64 --width 128".split()
    run_script("datasets/make_mini.py", "--output", data / "mini", *sizes).check_returncode()
    folder = tmp_path / "output"
    options = [*SMALL, "SOLVER.MAX_ITER", 1, "MODEL.DEVICE", "cpu", "OUTPUT_DIR", folder]
    command = ["examples/own_trainer.py", "--config-file", "configs/mini/cityscapes_seg.yaml"]
    done = run_script(*command, *options, DETECTRON2_DATASETS=str(data))
    assert done.returncode == 0, done.stderr[-3000:]
    assert "mIoU" in done.stdout
    assert list(losses(folder)) == [0]


def test_vitdet_trains_on_the_map_of_stride_16() -> None:
    cfg = LazyConfig.load(str(EXAMPLES / "vitdet.py"))
    assert cfg.model.backbone.net.out_features == ["up4"]
    cfg.model.backbone.net = meta_prompt_backbone(
        "mini", rearrange="none", num_steps=1, out_features=["up4"]
    )
    cfg.model.backbone.square_pad = 128
    torch.manual_seed(0)
    model = instantiate(cfg.model).train()
    masks = torch.zeros(1, 96, 128, dtype=torch.bool)
    masks[:, 20:60, 30:90] = True
    instances = Instances((96, 128), gt_boxes=Boxes(torch.tensor([[30.0, 20, 90, 60]])))
    instances.gt_classes, instances.gt_masks = torch.tensor([3]), BitMasks(masks)
    image = torch.randint(256, (3, 96, 128), dtype=torch.uint8)
    with EventStorage():  # of the training loop; Detectron2's models log to it
        sum(model([{"image": image, "instances": instances}]).values()).backward()
    net = model.backbone.net
    trained = {name for name, p in net.named_parameters() if p.grad is not None}
    assert trained == {name for name, p in net.named_parameters() if p.requires_grad}
    assert any(name.startswith("refinement.unet.up_blocks") for name in trained)


def test_mask2former_reads_features_that_the_backbone_has(tmp_path: Path) -> None:
    """Its own YAML files aren't here; its keys are, and the example's must be among them."""
    text = (EXAMPLES / "mask2former.yaml").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("_BASE_")]
    file = tmp_path / "mask2former.yaml"
    file.write_text("\n".join(lines))
    cfg = get_cfg()
    add_mask2former_keys(cfg)
    add_metaprompt_config(cfg)
    cfg.merge_from_file(str(file))
    cfg.INPUT.FORMAT = "RGB"  # as in its base
    strides = {name: shape.stride for name, shape in shapes(cfg).items()}
    head = cfg.MODEL.SEM_SEG_HEAD
    assert [strides[name] for name in head.IN_FEATURES] == [4, 8, 16, 32]  # those of a ResNet
    coarse = head.DEFORMABLE_TRANSFORMER_ENCODER_IN_FEATURES
    assert [strides[name] for name in coarse] == [8, 16, 32]


def shapes(cfg: CfgNode) -> dict:
    with torch.device("meta"):
        return build_backbone(cfg).output_shape()


@pytest.mark.parametrize("file", sorted(EXAMPLES.glob("*.py")), ids=lambda file: file.name)
def test_the_docstring_says_how_to_run_it(file: Path) -> None:
    assert file.name in (ast.get_docstring(ast.parse(file.read_text())) or "")
