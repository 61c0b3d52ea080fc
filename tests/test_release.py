"""Releases: the source archive is complete, the wheel runs in an empty folder, metadata agree."""

import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
# Contents of a checkout, without datasets, outputs and caches.
PARTS = (".github", "configs", "docs", "metaprompt_d2", "tests", "tools")
FILES = (".pre-commit-config.yaml", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE")
FILES += ("MANIFEST.in", "MODEL_ZOO.md", "Makefile", "README.md", "SECURITY.md", "constraints.txt")
FILES += ("pyproject.toml", "setup.py")

# A user's first script; only the installed wheel is there, nothing of the checkout.
SMOKE = """
from pathlib import Path
import numpy, torch
import metaprompt_d2
from metaprompt_d2.engine import load_config, load_model

assert Path(metaprompt_d2.__file__).is_relative_to({site!r}), metaprompt_d2.__file__
cfg = load_config("metaprompt_d2://mini/cityscapes_seg.yaml", ["MODEL.DEVICE", "cpu"])
model = load_model(cfg, require_weights=False).eval()  # from the packaged mini diffusion model
with torch.no_grad():
    (output,) = model([{{"image": torch.rand(3, 64, 128) * 255, "height": 32, "width": 64}}])
print(metaprompt_d2.__version__, *output["sem_seg"].shape)
"""


def build(source: Path, target: Path, kind: str) -> Path:
    """Call `build_sdist` or `build_wheel` of the build backend; returns the file."""
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
    """The source archive, built from a copy without datasets and outputs."""
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
    kept = (".py", ".md", ".yaml", ".yml", ".json", ".safetensors", ".png", ".npz", ".typed")
    wanted = {str(file.relative_to(ROOT)) for file in ours if file.suffix in kept} | set(FILES)
    assert wanted - names == set()
    assert not [name for name in names if name.startswith("datasets/mini/") or ".pyc" in name]


def test_the_wheel_holds_the_package_and_its_configs_only(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    top = {name.split("/")[0] for name in names}
    assert {name for name in top if not name.endswith(".dist-info")} == {"metaprompt_d2"}
    configs = (file for file in (ROOT / "configs").rglob("*.*") if file.suffix != ".pyc")
    wanted = {f"metaprompt_d2/{file.relative_to(ROOT)}" for file in configs}
    assert wanted | {"metaprompt_d2/py.typed"} <= set(names)


def test_the_wheels_metadata_say_who_wrote_it_and_where_to_read_on(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        metadata = email.message_from_bytes(archive.read(name))
    assert metadata["Name"] == "metaprompt_d2"
    assert metadata["Author"] == "The metaprompt_d2 authors"
    assert any("arxiv.org/abs/2312.14733" in url for url in metadata.get_all("Project-URL"))
    assert "Typing :: Typed" in metadata.get_all("Classifier")
    assert metadata["Keywords"]


def test_the_wheel_runs_in_an_environment_and_a_folder_of_its_own(
    wheel: Path, tmp_path: Path
) -> None:
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    site = tmp_path / "env/lib" / version / "site-packages"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    # Dependencies come from this environment, without its .pth files, which may lead to a checkout.
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


def version() -> str:
    """The package's version, read without importing it."""
    return re.search(r'__version__ = "(.+)"', (ROOT / "metaprompt_d2/__init__.py").read_text())[1]


def test_the_changelog_has_the_version() -> None:
    assert f"## {version()}" in (ROOT / "CHANGELOG.md").read_text()


def test_the_citation_is_valid_and_has_the_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation.keys() >= {"authors", "message", "title"}  # the schema's required keys
    assert citation["version"] == version()
    paper = citation["preferred-citation"]
    assert paper.keys() >= {"authors", "title", "type"}
    assert all(author.keys() == {"family-names", "given-names"} for author in paper["authors"])
    readme = (ROOT / "README.md").read_text()
    names = " and ".join(f"{a['family-names']}, {a['given-names']}" for a in paper["authors"])
    assert f"author  = {{{names}}}" in readme
    assert f"title   = {{{paper['title']}}}" in readme


def test_the_hooks_run_the_pinned_ruff() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    (ruff,) = (repo for repo in hooks["repos"] if repo["repo"].endswith("/ruff-pre-commit"))
    assert f"ruff=={ruff['rev'].removeprefix('v')}\n" in (ROOT / "constraints.txt").read_text()


def test_workflows_and_issue_forms_are_yaml() -> None:
    files = sorted((ROOT / ".github").rglob("*.yml"))
    assert len(files) >= 4
    contents = [yaml.safe_load(file.read_text()) for file in files]
    assert all(isinstance(content, dict) for content in contents)


def test_every_make_target_of_the_workflow_exists() -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    workflow = (ROOT / ".github/workflows/ci.yml").read_text()
    used = re.findall(r"\bmake (\w+)$", workflow, re.MULTILINE)
    assert used
    assert set(used) <= set(targets)


def test_every_script_of_the_makefile_exists() -> None:
    scripts = re.findall(r"[\w/]+\.py\b", (ROOT / "Makefile").read_text())
    assert scripts
    assert not [script for script in scripts if not (ROOT / script).is_file()]


def test_the_model_zoo_lists_every_recipe() -> None:
    zoo = (ROOT / "MODEL_ZOO.md").read_text()
    files = [file for folder in ("", "mini") for file in (ROOT / "configs" / folder).glob("*.yaml")]
    recipes = [file for file in files if not file.name.startswith("Base-")]
    assert recipes
    assert not [file for file in recipes if str(file.relative_to(ROOT)) not in zoo]
