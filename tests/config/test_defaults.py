"""`add_metaprompt_config` next to other projects' functions: it adds, and changes nothing."""

from collections.abc import Callable

import pytest
from config_keys import leaves
from detectron2.config import CfgNode, get_cfg
from detectron2.projects.deeplab import add_deeplab_config
from detectron2.projects.panoptic_deeplab import add_panoptic_deeplab_config
from detectron2.projects.point_rend import add_pointrend_config
from mask2former_keys import add_mask2former_keys

from metaprompt_d2 import add_metaprompt_config

AddKeys = Callable[[CfgNode], None]
# What their own `train_net.py` call, in their order.
PROJECTS: dict[str, list[AddKeys]] = {
    "DeepLab": [add_deeplab_config],
    "PointRend": [add_pointrend_config],
    "Panoptic-DeepLab": [add_panoptic_deeplab_config],
    "Mask2Former": [add_deeplab_config, add_mask2former_keys],
}


def after(*functions: AddKeys) -> CfgNode:
    """Detectron2's config after calls of functions."""
    cfg = get_cfg()
    for add_keys in functions:
        add_keys(cfg)
    return cfg


@pytest.mark.parametrize("name", PROJECTS)
def test_the_order_of_the_calls_does_not_matter(name: str) -> None:
    theirs = PROJECTS[name]
    first = after(add_metaprompt_config, *theirs)
    for position in range(1, len(theirs) + 1):
        other = after(*theirs[:position], add_metaprompt_config, *theirs[position:])
        assert dict(leaves(other)) == dict(leaves(first))


@pytest.mark.parametrize("name", PROJECTS)
def test_every_value_of_a_project_stays(name: str) -> None:
    both = dict(leaves(after(add_metaprompt_config, *PROJECTS[name])))
    assert dict(leaves(after(*PROJECTS[name]))).items() <= both.items()


def test_keys_of_detectron2_stay() -> None:
    assert dict(leaves(get_cfg())).items() <= dict(leaves(after(add_metaprompt_config))).items()


def test_published_schedules_of_others_stay() -> None:
    cfg = after(add_metaprompt_config)
    assert cfg.SOLVER.POLY_LR_POWER == 0.9
    assert cfg.INPUT.CROP.SINGLE_CATEGORY_MAX_AREA == 1.0
    assert cfg.INPUT.COLOR_AUG_SSD is False


def test_a_second_call_changes_nothing() -> None:
    cfg = after(add_metaprompt_config)
    node = cfg.MODEL.DIFFUSION
    cfg.MODEL.DIFFUSION.WEIGHTS = "mine"
    cfg.SOLVER.POLY_LR_POWER = 2.0
    before = cfg.clone()
    cfg.freeze()
    add_metaprompt_config(cfg)
    assert cfg.MODEL.DIFFUSION is node
    assert dict(leaves(cfg)) == dict(leaves(before))


def test_two_configs_share_no_value() -> None:
    one, other = after(add_metaprompt_config), after(add_metaprompt_config)
    one.SOLVER.PARAM_RULES.clear()
    one.MODEL.DIFFUSION.UNET.NUM_HEADS = 1
    assert other.SOLVER.PARAM_RULES
    assert other.MODEL.DIFFUSION.UNET.NUM_HEADS == 8


def test_a_frozen_config_is_left_alone() -> None:
    cfg = get_cfg()
    cfg.freeze()
    with pytest.raises(AttributeError, match="immutable"):
        add_metaprompt_config(cfg)
    assert "DIFFUSION" not in cfg.MODEL
