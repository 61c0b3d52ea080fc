"""A missing optional package is named with the command that installs it."""

import importlib
import sys

import pytest

from metaprompt_d2.utils.errors import InputError
from metaprompt_d2.utils.optional import optional_packages


@pytest.mark.parametrize("module", ["lvis", "shapely.geometry"])
def test_a_missing_package_is_wrong_input(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)  # importing it fails
    package = module.split(".")[0]
    message = f"^a crop needs the package {package}: pip install .*(lvis|polygons)"
    with pytest.raises(InputError, match=message), optional_packages("a crop"):
        importlib.import_module(module)


def test_other_modules_stay_bugs() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module"), optional_packages("a crop"):
        importlib.import_module("no_such_module")
