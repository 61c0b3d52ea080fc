"""Private names of other packages: each that is used is listed with its reason, and exists."""

import ast
import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import metaprompt_d2

PACKAGE = Path(metaprompt_d2.__file__).parent
PAGE = Path(__file__).resolve().parents[1] / "docs/architecture.md"
MODULES = {
    name: importlib.import_module(name)
    for _, name, _ in pkgutil.walk_packages([str(PACKAGE)], "metaprompt_d2.")
    if not name.startswith("metaprompt_d2.configs")
}
ROW = re.compile(r"^\| `([\w/]+\.py)` \| (.+?) \| (.+?) \|$", re.M)
LISTED = {
    (file, name)
    for file, names, reason in ROW.findall(PAGE.read_text())
    for name in re.findall(r"`([\w.]+)`", names)
    if len(reason) > 10
}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def own_names(trees: list[ast.Module]) -> set[str]:
    """Names that the package defines or assigns itself."""
    found = set()
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if ast.unparse(node.value) == "self":
                found.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return found


def read_names() -> Iterator[tuple[str, str]]:
    """File and last part of every private name that the package reads or imports from others."""
    trees = {file: ast.parse(file.read_text()) for file in sorted(PACKAGE.rglob("*.py"))}
    own = own_names(list(trees.values()))
    for file, tree in trees.items():
        for node in ast.walk(tree):
            place = file.relative_to(PACKAGE).as_posix()
            is_read = isinstance(node, ast.Attribute) and is_private(node.attr)
            # os._exit is public in spite of its name.
            if is_read and node.attr not in own and ast.unparse(node) != "os._exit":
                yield place, node.attr
            if isinstance(node, ast.ImportFrom) and not node.level:
                parts = (node.module or "").split(".")
                yield from ((place, part) for part in parts if is_private(part))
                yield from ((place, a.name) for a in node.names if is_private(a.name))


def overridden_names() -> Iterator[tuple[str, str]]:
    """File and last part of every private method of others that the package overrides."""
    for name, module in MODULES.items():
        for cls in vars(module).values():
            if not inspect.isclass(cls) or cls.__module__ != name:
                continue
            foreign = [b for b in cls.__mro__[1:] if not b.__module__.startswith("metaprompt_d2")]
            file = Path(inspect.getfile(cls)).relative_to(PACKAGE).as_posix()
            for attribute in filter(is_private, vars(cls)):
                is_method = inspect.isroutine(vars(cls)[attribute])
                if is_method and any(attribute in vars(base) for base in foreign):
                    yield file, attribute


def test_every_private_name_of_others_is_listed_with_its_reason() -> None:
    used = {*read_names(), *overridden_names()}
    assert used == {(file, name.rpartition(".")[2]) for file, name in LISTED}


@pytest.mark.parametrize(("file", "name"), sorted(LISTED))
def test_a_private_name_still_exists(file: str, name: str) -> None:
    parts = name.split(".")
    for length in range(len(parts) - 1, 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
            break
        except ModuleNotFoundError:
            continue
    message = f"{name}, which {file} uses, is gone: find another way and update {PAGE.name}"
    for part in parts[length:]:
        is_set_in_constructor = inspect.isclass(found) and f"self.{part}" in inspect.getsource(
            found
        )
        assert hasattr(found, part) or is_set_in_constructor, message
        found = getattr(found, part, None)
