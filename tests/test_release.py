"""What is released: a source archive that holds all, and a wheel that runs in an empty folder."""

import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Folders and files of the project, less what work leaves in them.
PARTS = ("configs", "docs", "metaprompt_d2", "tests", "tools")
FILES = ("CHANGELOG.md", "LICENSE", "MANIFEST.in", "Makefile", "README.md", "constraints.txt")
FILES += ("pyproject.toml", "setup.py")

# As a user's first script: nothing of the checkout is there but the installed wheel.
SMOKE = """
from pathlib import Path
import numpy, torch
import metaprompt_d2
from metaprompt_d2.engine import load_config, load_model

assert Path(metaprompt_d2.__file__).is_relative_to({site!r}), metaprompt_d2.__file__
cfg = load_config("metaprompt_d2://mini/cityscapes_seg.yaml", ["MODEL.DEVICE", "cpu"])
model = load_model(cfg).eval()  # from the packaged mini diffusion model
with torch.no_grad():
    (output,) = model([{{"image": torch.rand(3, 64, 128) * 255, "height": 32, "width": 64}}])
print(metaprompt_d2.__version__, *output["sem_seg"].shape)
"""


def build(source: Path, target: Path, kind: str) -> Path:
    """`build_sdist` or `build_wheel` of the project's own build backend; returns the file."""
    command = f"from setuptools import build_meta; print(build_meta.{kind}({str(target)!r}))"
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", command],
        cwd=source,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    return target / result.stdout.split()[-1]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source archive, built from a copy without data sets and outputs."""
    source = tmp_path_factory.mktemp("source")
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", ".*")
    for part in PARTS:
        shutil.copytree(ROOT / part, source / part, ignore=ignored)
    for name in FILES:
        shutil.copy(ROOT / name, source / name)
    for file in [*(ROOT / "datasets").glob("*.*"), *(ROOT / "datasets/mini_world").glob("*.py")]:
        target = source / file.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, target)
    (source / "datasets/mini").mkdir()
    (source / "datasets/mini/drawn.png").write_bytes(b"data are not released")
    return build(source, tmp_path_factory.mktemp("dist"), "build_sdist")


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the source archive alone."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    return build(next(folder.iterdir()), tmp_path_factory.mktemp("dist"), "build_wheel")


def test_the_source_archive_holds_all_that_docs_and_tests_refer_to(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    ours = [file for part in PARTS for file in (ROOT / part).rglob("*.*")]
    ours += [*(ROOT / "datasets").glob("*.*"), *(ROOT / "datasets/mini_world").glob("*.py")]
    kept = (".py", ".md", ".yaml", ".json", ".safetensors", ".png", ".npz")
    wanted = {str(file.relative_to(ROOT)) for file in ours if file.suffix in kept} | set(FILES)
    assert wanted - names == set()
    assert not [name for name in names if name.startswith("datasets/mini/") or ".pyc" in name]


def test_the_wheel_holds_the_package_and_its_configs_only(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"metaprompt_d2"}
    configs = (ROOT / "configs").rglob("*.*")
    assert {f"metaprompt_d2/{file.relative_to(ROOT)}" for file in configs} <= set(names)


def test_the_wheel_runs_in_an_environment_and_a_folder_of_its_own(
    wheel: Path, tmp_path: Path
) -> None:
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    site = tmp_path / "env/lib" / version / "site-packages"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    # The dependencies are those of this environment; its own .pth files (a checkout installed as
    # editable) are not followed from here.
    theirs = [path for path in sys.path if path.endswith("-packages")]
    (site / "dependencies.pth").write_text("\n".join(theirs))
    empty = tmp_path / "empty"
    empty.mkdir()
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    result = subprocess.run(
        [str(tmp_path / "env/bin/python"), "-W", "ignore", "-c", SMOKE.format(site=str(site))],
        cwd=empty,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    assert result.stdout.split() == ["0.1.0", "19", "32", "64"]


def test_the_changelog_has_the_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    version = (ROOT / "metaprompt_d2/__init__.py").read_text().split('__version__ = "')[1]
    assert f"## {version.split(chr(34))[0]}" in text
