"""docs/config.md is made from the comments of config/defaults.py."""

import inspect
import runpy
from pathlib import Path

import pytest
from detectron2.config import CfgNode, get_cfg
from detectron2.projects.deeplab import add_deeplab_config
from detectron2.projects.point_rend import add_pointrend_config

from metaprompt_d2.config import add_metaprompt_config, defaults

SCRIPT = Path(__file__).resolve().parents[2] / "docs/make_config.py"


@pytest.fixture(scope="module")
def script() -> dict:
    return runpy.run_path(str(SCRIPT))


def keys_of(node: CfgNode, prefix: str = "") -> set[str]:
    found: set[str] = set()
    for key, value in node.items():
        deeper = isinstance(value, CfgNode)
        found |= keys_of(value, f"{prefix}{key}.") if deeper else {prefix + key}
    return found


def test_the_page_is_current(script: dict) -> None:
    message = "run `python docs/make_config.py`"
    assert SCRIPT.with_name("config.md").read_text() == script["render_page"](), message


def test_every_key_has_a_comment(script: dict) -> None:
    cfg = get_cfg()
    add_deeplab_config(cfg)
    add_pointrend_config(cfg)
    theirs = keys_of(cfg)
    add_metaprompt_config(cfg)
    comments = script["read_comments"](inspect.getsource(defaults))
    assert keys_of(cfg) - theirs <= set(comments)
    assert not [key for key, comment in comments.items() if not comment.endswith(".")]
