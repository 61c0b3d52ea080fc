"""Imports run one way, nothing is dead, and no config key is read by nobody."""

import ast
import re
from pathlib import Path

import pytest
from detectron2.config import CfgNode, get_cfg

from metaprompt_d2 import add_metaprompt_config

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "metaprompt_d2"
MODULES = sorted(PACKAGE.rglob("*.py"))
SCRIPTS = [*(ROOT / "tools").glob("*.py"), *(ROOT / "datasets").rglob("*.py")]

# A module imports from lower layers and from its own part only.
LAYERS = {
    **dict.fromkeys(["losses", "windows", "layers"], 0),
    "diffusion": 1,
    "checkpoint": 2,
    **dict.fromkeys(["config", "config_files", "reading"], 3),
    **dict.fromkeys(["modeling", "data", "evaluation"], 4),
    "visualization": 5,
    "engine": 6,
}


def part_of(module: Path) -> str:
    return module.relative_to(PACKAGE).parts[0].removesuffix(".py")


def own_imports(file: Path) -> set[str]:
    """Modules of the package that a file imports, as dotted names below the package."""
    package = ["metaprompt_d2"]
    if PACKAGE in file.parents:
        package += file.relative_to(PACKAGE).parent.parts
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *filter(None, [node.module])])
            found |= {module} | {f"{module}.{alias.name}" for alias in node.names}
    return {
        name.removeprefix("metaprompt_d2.") for name in found if name.startswith("metaprompt_d2.")
    }


@pytest.mark.parametrize("module", MODULES, ids=lambda m: str(m.relative_to(PACKAGE)))
def test_imports_go_down_only(module: Path) -> None:
    part = part_of(module)
    if part == "__init__":
        return
    for name in own_imports(module):
        other = name.split(".")[0]
        if other in LAYERS and other != part:
            assert LAYERS[other] < LAYERS[part], f"{part} imports {name}"


def test_the_diffusion_parts_do_without_detectron2() -> None:
    for module in (PACKAGE / "diffusion").glob("*.py"):
        assert "detectron2" not in module.read_text().replace("metaprompt_d2", ""), module


def test_no_module_is_dead() -> None:
    used = set().union(*(own_imports(file) for file in [*MODULES, *SCRIPTS]))
    for module in MODULES:
        parts = module.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        assert not name or name in used, f"nothing imports {name}"


def test_the_package_neither_prints_nor_stops_for_a_debugger() -> None:
    for module in MODULES:
        calls = re.findall(r"\b(?:print|breakpoint|set_trace)\(", module.read_text())
        assert not calls, module


def test_torch_load_never_runs_code() -> None:
    for file in [*MODULES, *SCRIPTS]:
        for call in re.findall(r"torch\.load\([^\n]*", file.read_text()):
            assert "weights_only=True" in call, file


def added_keys() -> list[str]:
    """Dotted names of the keys that the package adds to Detectron2's config."""

    def leaves(node: CfgNode, prefix: str = "") -> set[str]:
        names = set()
        for key, value in node.items():
            inner = isinstance(value, CfgNode)
            names |= leaves(value, f"{prefix}{key}.") if inner else {f"{prefix}{key}"}
        return names

    cfg = get_cfg()
    before = leaves(cfg)
    add_metaprompt_config(cfg)
    return sorted(leaves(cfg) - before)


# Detectron2's own DeepLab project reads these.
READ_ELSEWHERE = {"SOLVER.POLY_LR_POWER", "SOLVER.POLY_LR_CONSTANT_ENDING"}


@pytest.mark.parametrize("key", added_keys())
def test_every_config_key_is_read(key: str) -> None:
    name = key.split(".")[-1]
    readers = [m for m in MODULES if m.name != "config.py" and f".{name}" in m.read_text()]
    assert readers or key in READ_ELSEWHERE
