"""What README and docs say is so: their code runs, their files and config keys exist."""

import re
from itertools import product
from pathlib import Path

import pytest
from detectron2.config import CfgNode

from metaprompt_d2.engine import load_config

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", ROOT / "datasets/README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_examples_run(page: Path) -> None:
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        exec(compile(block, str(page), "exec"), {})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_exist(page: Path) -> None:
    text = page.read_text()
    named = re.findall(r"\b((?:tools|configs|datasets|docs)/[\w./-]+\.(?:py|yaml|md|png))", text)
    linked = re.findall(r"\]\((?!http)([^)#]+)\)", text)
    missing = [name for name in named if not (ROOT / name).exists()]
    missing += [name for name in linked if not (page.parent / name).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_config_keys_exist(page: Path) -> None:
    cfg = load_config("", [])
    keys = re.findall(
        r"\b(?:MODEL|INPUT|SOLVER|TEST|DATASETS|DATALOADER)\.[\w.{},]+", page.read_text()
    )
    missing = [key for key in keys if not all(exists(cfg, key) for key in expand(key))]
    assert not missing


def expand(key: str) -> list[str]:
    """`A.{B,C}` -> `A.B`, `A.C`."""
    parts = [
        options.split(",") if "," in options else [options]
        for options in re.split(r"[{}]", key.rstrip(".,"))
    ]
    return ["".join(choice) for choice in product(*parts)]


def exists(cfg: CfgNode, key: str) -> bool:
    node = cfg
    for name in filter(None, key.split(".")):
        if not isinstance(node, CfgNode) or name not in node:
            return False
        node = node[name]
    return True
