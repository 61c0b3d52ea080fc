"""README and docs are true: their code runs; their files, config keys and commands exist."""

import contextlib
import functools
import io
import re
import runpy
import shlex
import sys
from itertools import product
from pathlib import Path

import pytest
from detectron2.config import CfgNode
from doc_commands import HEAVY, commands_of, stand_in

from metaprompt_d2.engine import load_config

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), ROOT / "datasets/README.md"]
PAGES += sorted((ROOT / "docs").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_examples_run(page: Path) -> None:
    for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL):
        names: dict = {}
        exec(compile(block, str(page), "exec"), names)
        assert names.keys() - {"__builtins__"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_exist(page: Path) -> None:
    text = page.read_text()
    # A longer path, such as `segmentation/configs/ade.py`, is a file of the official code.
    ours = r"(?<![\w/])(?:configs|datasets|docs|tests|tools)"
    named = re.findall(rf"({ours}/[\w./-]+\.(?:py|yaml|md|png))", text)
    missing = [name for name in named if not (ROOT / name).exists()]
    missing += [name for name, _ in links(text) if not (page.parent / name).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_linked_headings_exist(page: Path) -> None:
    for name, heading in links(page.read_text()):
        assert not heading or heading in anchors(page.parent / name if name else page)


def test_headings_of_the_method_that_code_cites_exist() -> None:
    folders = ("configs", "datasets", "metaprompt_d2", "tests", "tools")
    files = [file for folder in folders for file in (ROOT / folder).rglob("*.*")]
    text = "\n".join(file.read_text() for file in files if file.suffix in (".py", ".yaml"))
    cited = set(re.findall(r"docs/method\.md#([\w-]+)", text))
    assert cited - anchors(ROOT / "docs/method.md") == set()


def links(text: str) -> list[tuple[str, str]]:
    """Links within the repository: file ("" for the page itself) and heading ("" for none)."""
    return re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", text)


def anchors(page: Path) -> set[str]:
    """What a link to a heading of a page ends with, by GitHub's rule."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_page_is_reached_from_the_readme_or_the_list_of_pages() -> None:
    lists = (ROOT / "README.md").read_text() + (ROOT / "docs/README.md").read_text()
    linked = {Path(name).name for name, _ in links(lists)}
    pages = {page.name for folder in (ROOT, ROOT / "docs") for page in folder.glob("*.md")}
    assert pages - linked - {"README.md"} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_config_keys_exist(page: Path) -> None:
    cfg = load_config("", [])
    keys = re.findall(
        r"\b(?:MODEL|INPUT|SOLVER|TEST|DATASETS|DATALOADER)\.[\w.{},]+", page.read_text()
    )
    missing = [key for key in keys if not all(exists(cfg, key) for key in expand(key))]
    assert not missing


# ------------------------------------------------------------------ commands

COMMANDS = sorted(
    {(str(page.relative_to(ROOT)), command) for page in PAGES for command in commands_of(page)}
)
TOOL = re.compile(r"python ((?:tools|datasets)/\w+\.py)")


def test_commands_are_found() -> None:
    assert len(COMMANDS) > 20
    assert ("README.md", "make test") in COMMANDS
    assert "--autolabelled FOLDER" in "".join(command for _, command in COMMANDS)
    assert not any("another model's labels" in command for _, command in COMMANDS)


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_a_command_is_run_by_a_test_or_too_heavy_for_one(page: str, command: str) -> None:
    what = stand_in(command)
    assert what, f"{page}: no row of tests/utils/doc_commands.py matches `{command}`"
    assert what.startswith(HEAVY) or (ROOT / what).is_file(), what


@functools.cache
def options_of(script: str) -> set[str]:
    """Options that a script's `--help` lists."""
    printed, arguments, path = io.StringIO(), sys.argv, list(sys.path)
    sys.argv = [script, "--help"]
    sys.path.insert(0, str((ROOT / script).parent))
    try:
        with contextlib.redirect_stdout(printed), pytest.raises(SystemExit) as stop:
            runpy.run_path(str(ROOT / script), run_name="__main__")
    finally:
        sys.argv, sys.path[:] = arguments, path
    assert not stop.value.code
    return set(re.findall(r"(?<![\w-])--[a-z][\w-]*", printed.getvalue()))


@pytest.mark.parametrize(("page", "command"), [item for item in COMMANDS if TOOL.match(item[1])])
def test_options_and_config_keys_of_a_command_exist(page: str, command: str) -> None:
    words = shlex.split(command)
    options = {word.split("=")[0] for word in words if word.startswith("--")}
    assert options <= options_of(words[1]), page
    pairs = [
        part
        for key, value in zip(words, words[1:], strict=False)
        if re.fullmatch(r"[A-Z][A-Z_\d]*(\.[A-Z_\d]+)+|OUTPUT_DIR", key)
        for part in (key, value)
    ]
    if "MODEL.DIFFUSION.SIZES_FROM_WEIGHTS" in pairs:  # would open the weights
        pairs[pairs.index("MODEL.DIFFUSION.SIZES_FROM_WEIGHTS") + 1] = "False"
    if "--config-file" in words:
        config = words[words.index("--config-file") + 1]
        ours = config.startswith("configs/") and config.endswith(".yaml")  # others are LazyConfigs
        load_config(str(ROOT / config) if ours else "", pairs)


# ------------------------------------------------------------------ config keys


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
