"""`tools/install_detectron2.py`: finds what is there, renames the archive's files faithfully."""

import importlib.util
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    file = Path(__file__).resolve().parents[2] / "tools/install_detectron2.py"
    spec = importlib.util.spec_from_file_location("install_detectron2", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_an_installed_detectron2_is_used(run_tool: Callable[..., str]) -> None:
    output = run_tool("install_detectron2.py", "--check")
    assert "already installed" in output
    assert "detectron2/__init__.py" in output


def test_check_alone_installs_nothing(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(tool, "find_detectron2", lambda: (None, "No module named 'detectron2'"))
    monkeypatch.setattr(tool, "install_from_archive", lambda: pytest.fail("installed"))
    assert tool.main(["--check"]) == 1
    assert "No module named 'detectron2'" in capsys.readouterr().out


def test_the_archive_gives_a_package_under_its_own_name(tool: ModuleType, tmp_path: Path) -> None:
    archive = tmp_path / "archive.whl"
    with zipfile.ZipFile(archive, "w") as files:
        files.writestr("LabGym/gui.py", "import wx")
        files.writestr("LabGym/detectron2/__init__.py", "from LabGym.detectron2 import config\n")
        files.writestr("LabGym/detectron2/config.py", "LabGym_detectron2 = 'LabGym.detectron2'\n")
        files.writestr("LabGym/detectron2/model_zoo/configs/a.yaml", "NAME: LabGym.detectron2\n")
    tool.extract_package(archive, tmp_path / "tree")
    source = tmp_path / "tree/src/detectron2"
    assert (source / "__init__.py").read_text() == "from detectron2 import config\n"
    assert (source / "config.py").read_text() == "LabGym_detectron2 = 'detectron2'\n"
    assert (source / "model_zoo/configs/a.yaml").read_text() == "NAME: LabGym.detectron2\n"
    assert not (tmp_path / "tree/src/gui.py").exists()
    assert 'name = "detectron2"' in (tmp_path / "tree/pyproject.toml").read_text()


def test_an_archive_of_other_content_is_refused(
    tool: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    def download(command: list[str]) -> subprocess.CompletedProcess:
        folder = Path(command[command.index("--dest") + 1])
        (folder / "labgym-3.1.2-py3-none-any.whl").write_bytes(b"something else")
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(tool, "find_detectron2", lambda: (None, "missing"))
    monkeypatch.setattr(tool.subprocess, "run", download)
    assert tool.main([]) == 1
    output = capsys.readouterr().out
    assert f"expected {tool.ARCHIVE_SHA256}" in output
    assert "INSTALL.md" in output


def test_a_commit_with_internal_imports_is_warned_of(
    tool: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "evaluation").mkdir()
    evaluator = tmp_path / "evaluation/cityscapes_evaluation.py"
    evaluator.write_text("from deeplearning.projects.cityscapesApi import labels")
    tool.warn_of_unusable_commit(str(tmp_path / "__init__.py"))
    assert "c69939aa" in capsys.readouterr().out


def test_importing_the_package_without_detectron2_says_what_to_run() -> None:
    code = "import sys; sys.modules['detectron2'] = None; import metaprompt_d2"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode != 0
    assert "python tools/install_detectron2.py" in result.stderr.splitlines()[-1]
