"""`--help` of every script shows the examples of its docstring, line by line."""

import ast
import re
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = [*sorted((ROOT / "tools").glob("*.py")), *sorted((ROOT / "datasets").glob("*.py"))]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_lines_of_examples_are_kept(script: Path) -> None:
    source = script.read_text()
    tree = ast.parse(source)
    docstring = ast.get_docstring(tree, clean=False)
    written = ast.get_source_segment(source, tree.body[0])
    assert docstring.splitlines() == re.sub(r'^r?"""|"""$', "", written).splitlines()
    if "ArgumentParser(" in source and "__doc__.split" not in source:
        assert "RawDescriptionHelpFormatter" in source


@pytest.mark.parametrize("name", ["train_net.py", "lazyconfig_train_net.py"])
def test_without_arguments_the_trainings_say_what_to_give(
    run_tool: Callable[..., str], name: str
) -> None:
    output = run_tool(name, fails=True)
    assert "--config-file is missing. Give a recipe of configs/" in output.splitlines()[-1]


def test_help_ends_with_the_examples(run_tool: Callable[..., str]) -> None:
    output = run_tool("train_net.py", "--help")
    example = (
        "    python tools/train_net.py --config-file configs/cityscapes_seg.yaml --eval-only \\\n"
        "        MODEL.WEIGHTS output/model_final.pth\n"
    )
    assert example in output
