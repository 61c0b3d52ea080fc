"""The package's shape: layers, no dead module or key, nothing that prints, stops or runs files."""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from detectron2.config import CfgNode, get_cfg
from detectron2.projects.deeplab import add_deeplab_config
from detectron2.projects.point_rend import add_pointrend_config

from metaprompt_d2 import add_metaprompt_config

ROOT = Path(__file__).resolve().parents[1]
NAME = "metaprompt_d2"
PACKAGE = ROOT / NAME
TOOLS = sorted((ROOT / "tools").glob("*.py"))

# A file imports from its own part (folder or file of the package) and from parts below.
LAYERS = [
    {"utils"},
    {"codecs", "config", "layers", "metrics"},
    {"data", "diffusion", "visualization"},
    {"checkpoint", "evaluation"},
    {"modeling"},
    {"engine", "export"},
    {"inference", "model_zoo"},
]
LAYER_OF = {part: number for number, parts in enumerate(LAYERS) for part in parts}

# What a part may import besides the standard library; the other parts anything.
THIRD_PARTY = {
    **dict.fromkeys(("codecs", "layers", "metrics"), {"numpy", "torch"}),
    "utils": {"PIL", "detectron2", "numpy", "torch"},
    "diffusion": {"diffusers", "peft", "torch"},
    "checkpoint": {"diffusers", "huggingface_hub", "numpy", "safetensors", "torch"},
}

# Entry points: what a user imports; tools are added to them.
ENTRIES = (NAME, f"{NAME}.engine")


def module_name(file: Path) -> str:
    parts = file.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(file): file for file in sorted(PACKAGE.rglob("*.py"))}
TREES = {name: ast.parse(file.read_text()) for name, file in MODULES.items()}
PARTS = sorted(name for name in MODULES if name.count(".") == 1)


def imported_by(tree: ast.AST, module: str, is_package: bool) -> Iterator[str]:
    """Full dotted names that a module imports; `from a import b` gives a and a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parts = parts[: len(parts) - node.level + is_package]
                base = ".".join([*parts, *filter(None, [node.module])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def imports(module: str) -> set[str]:
    is_package = MODULES[module].name == "__init__.py"
    return set(imported_by(TREES[module], module, is_package))


def part_of(name: str) -> str:
    """`metaprompt_d2.data.build` -> `data`; the package itself -> ``."""
    return (name.split(".") + [""])[1]


def own(module: str) -> set[str]:
    """Modules of the package that a module imports."""
    return {name for name in imports(module) if name in MODULES}


def test_every_room_has_a_layer() -> None:
    assert {part_of(name) for name in PARTS} == LAYER_OF.keys()


def test_no_module_stands_outside_of_a_room() -> None:
    assert {file.name for file in PACKAGE.glob("*.py")} == {"__init__.py", "model_zoo.py"}


@pytest.mark.parametrize(
    "file",
    [f for room in sorted(LAYER_OF) for f in sorted((ROOT / "tests" / room).rglob("test_*.py"))],
    ids=str,
)
def test_a_test_mirrors_a_module(file: Path) -> None:
    """`tests/data/test_readers.py`, or `test_readers_tiff.py`, tests `data/readers.py`."""
    folder = PACKAGE / file.parent.relative_to(ROOT / "tests")
    name = file.stem.removeprefix("test_")
    modules = [module.stem for module in folder.glob("*.py")]
    assert any(name == module or name.startswith(f"{module}_") for module in modules)


@pytest.mark.parametrize("module", [name for name in MODULES if name != NAME])
def test_a_module_imports_from_lower_layers_only(module: str) -> None:
    part = part_of(module)
    # `from .. import x` names the package too; only x counts.
    others = {name for name in own(module) - {NAME} if part_of(name) != part}
    assert {name for name in others if LAYER_OF[part_of(name)] >= LAYER_OF[part]} == set()


@pytest.mark.parametrize("part", sorted(THIRD_PARTY.keys() & {part_of(name) for name in PARTS}))
def test_lower_layers_need_few_other_packages(part: str) -> None:
    used = {
        name.split(".")[0]
        for module in MODULES
        if part_of(module) == part
        for name in imports(module)
    }
    others = used - set(sys.stdlib_module_names) - {NAME, ""}
    assert others <= THIRD_PARTY[part]


def test_the_check_of_layers_sees_relative_and_absolute_imports() -> None:
    tree = ast.parse("from ..data import build\nimport metaprompt_d2.engine.setup\nfrom . import a")
    assert set(imported_by(tree, f"{NAME}.modeling.backbone", False)) == {
        f"{NAME}.data",
        f"{NAME}.data.build",
        f"{NAME}.engine.setup",
        f"{NAME}.modeling",
        f"{NAME}.modeling.a",
    }


def test_every_module_is_reachable_from_the_package_its_engine_or_a_tool() -> None:
    waiting = [name for name in ENTRIES if name in MODULES]
    for tool in TOOLS:
        names = imported_by(ast.parse(tool.read_text()), tool.stem, False)
        waiting += [name for name in names if name in MODULES]
    reached: set[str] = set()
    while waiting:
        module = waiting.pop()
        if module not in reached:
            reached.add(module)
            parents = {module.rsplit(".", depth)[0] for depth in range(module.count(".") + 1)}
            waiting += (own(module) | parents) & MODULES.keys()
    assert MODULES.keys() - reached == set()


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Calls with the name as it is written, such as "torch.load"."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


@pytest.mark.parametrize("module", list(MODULES))
def test_nothing_prints_or_stops_for_a_debugger(module: str) -> None:
    written = {name for name, _ in calls(TREES[module])}
    assert not written & {"print", "breakpoint"}
    assert not imports(module) & {"pdb", "ipdb"}


def test_torch_load_never_runs_code_from_a_file() -> None:
    scripts = [*TOOLS, *sorted((ROOT / "datasets").rglob("*.py"))]
    trees = TREES | {file.name: ast.parse(file.read_text()) for file in scripts}
    loads = [
        (module, ast.unparse(call))
        for module, tree in trees.items()
        for name, call in calls(tree)
        if name == "torch.load"
    ]
    assert loads
    assert [load for load in loads if "weights_only=True" not in load[1]] == []


def test_pickle_is_read_by_the_restricted_unpickler_only() -> None:
    unsafe = {"pickle.load", "pickle.loads", "pickle.Unpickler", "cloudpickle.load"}
    for module, tree in TREES.items():
        assert not unsafe & {name for name, _ in calls(tree)}, module


@pytest.mark.parametrize("module", list(MODULES))
def test_a_module_has_a_docstring(module: str) -> None:
    assert ast.get_docstring(TREES[module])


@pytest.mark.parametrize("room", [name for name in MODULES if MODULES[name].name == "__init__.py"])
def test_a_room_lists_what_it_exports(room: str) -> None:
    """A leading underscore marks what is private to a module; `__all__` stands in rooms only."""
    exported = {
        alias.asname or alias.name
        for node in TREES[room].body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    listed = {
        element.value
        for node in TREES[room].body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
        for element in node.value.elts
    }
    internal = {"datasets", *(name for name in exported if name.startswith(("register_", "set_")))}
    assert exported <= listed | internal


def test_nothing_is_public_that_only_tests_use() -> None:
    """Registered classes and functions are used by their names."""
    users = [*MODULES.values(), *TOOLS, *(ROOT / "tools").glob("*/*.py")]
    users += [*(ROOT / "configs").rglob("*.py"), *(ROOT / "datasets").rglob("*.py")]
    words = {
        file: set(re.findall(r"\w+", file.read_text()))
        for file in users
        if file.name != "__init__.py"
    }
    pages = " ".join(file.read_text() for file in sorted((ROOT / "docs").glob("*.md")))
    unused = [
        f"{module}.{node.name}"
        for module, tree in TREES.items()
        for node in tree.body
        if isinstance(node, ast.ClassDef | ast.FunctionDef)
        and not node.name.startswith("_")
        and not node.decorator_list
        and MODULES[module].read_text().count(node.name) < 2
        and not any(node.name in found for file, found in words.items() if file != MODULES[module])
        and node.name not in pages
        and not node.name.startswith(("register_", "set_"))  # called by data/datasets/__init__.py
    ]
    assert unused == []


# ------------------------------------------------------------------ config keys


def leaves(node: CfgNode, prefix: str = "") -> Iterator[str]:
    for key, value in node.items():
        if isinstance(value, CfgNode):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key


def our_keys() -> list[str]:
    cfg = get_cfg()
    add_deeplab_config(cfg)
    add_pointrend_config(cfg)
    theirs = set(leaves(cfg))
    add_metaprompt_config(cfg)
    return [key for key in leaves(cfg) if key not in theirs]


def source_that_reads_keys() -> str:
    """Our code without the file that adds the keys."""
    files = [file for name, file in MODULES.items() if not name.startswith(f"{NAME}.config")]
    return "\n".join(file.read_text() for file in files)


@pytest.mark.parametrize("key", our_keys())
def test_a_config_key_is_read_somewhere(key: str) -> None:
    assert re.search(rf"\.{key.split('.')[-1]}\b", source_that_reads_keys())


def test_every_config_key_that_is_read_exists() -> None:
    cfg = get_cfg()
    add_metaprompt_config(cfg)
    source = "\n".join(file.read_text() for file in MODULES.values())
    missing = set()
    for key in re.findall(r"\bcfg\.([A-Z][A-Z0-9_]*(?:\.[A-Z][A-Z0-9_]*)*)", source):
        node = cfg
        for name in key.split("."):
            if not isinstance(node, CfgNode) or name not in node:
                missing.add(key)
                break
            node = node[name]
    assert missing == set()
