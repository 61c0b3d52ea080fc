"""Find Detectron2, or install its Python files from PyPI.

Detectron2 has no release on PyPI. This script needs only the standard library. It

1. uses an installed Detectron2, with its compiled operators, if there is one;
2. otherwise takes the pure-Python files of Detectron2 from a PyPI package (LabGym) that vendors an
   unmodified copy (Apache-2.0, commit b7ff9466 of 2024-01) under another package name, checks the
   archive's SHA-256, restores the package name and installs the files as `detectron2` 0.6.

It then checks that the result can be imported. To use deformable convolutions or rotated boxes,
build Detectron2 by its INSTALL.md first (tested: commit c69939aa85460e8135f40bce908a6cddaa73065f).
"""

import argparse
import hashlib
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

ARCHIVE = "LabGym==3.1.2"
ARCHIVE_SHA256 = "a2900cff8a3fb508e1975f19b5f9abd9f261966db87b0c332697fb4138c1cb2b"
INSTALL_MD = "https://github.com/facebookresearch/detectron2/blob/main/INSTALL.md"

PYPROJECT = """\
[build-system]
requires = ["setuptools"]
build-backend = "setuptools.build_meta"

[project]
name = "detectron2"
version = "0.6"
description = "Detectron2's Python files, without its compiled operators"
license = { text = "Apache-2.0" }

[tool.setuptools.packages.find]
where = ["src"]

[tool.setuptools.package-data]
"detectron2.model_zoo" = ["configs/**/*.yaml", "configs/**/*.py"]
"""

CHECK = """\
import detectron2, detectron2.engine, detectron2.evaluation
from detectron2 import model_zoo
model_zoo.get_config("Misc/semantic_R_50_FPN_1x.yaml")
print(detectron2.__file__)
"""


class InstallError(RuntimeError):
    """Detectron2 could not be installed."""


def find_detectron2() -> tuple[str | None, str]:
    """Import Detectron2 in a fresh process, away from the source tree.

    Returns:
        The path of its `__init__.py` and "", or None and the last line of the error.
    """
    with tempfile.TemporaryDirectory() as folder:
        result = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", CHECK],
            cwd=folder,
            capture_output=True,
            text=True,
        )
    lines = (result.stdout if result.returncode == 0 else result.stderr).strip().splitlines()
    last = lines[-1] if lines else "no output"
    return (last, "") if result.returncode == 0 else (None, last)


def download_archive(folder: Path) -> Path:
    """Download the archive with pip and check its SHA-256."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir"]
    # The wheel requires Python < 3.11, but its files are used with every version.
    command += ["--python-version", "3.10", "--only-binary=:all:", "--dest", str(folder), ARCHIVE]
    if subprocess.run(command).returncode != 0:
        raise InstallError(f"{ARCHIVE} could not be downloaded from PyPI")
    (archive,) = folder.glob("*.whl")
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    if digest != ARCHIVE_SHA256:
        raise InstallError(f"{archive.name} has SHA-256 {digest}, expected {ARCHIVE_SHA256}")
    return archive


def extract_package(archive: Path, folder: Path) -> None:
    """Write Detectron2's files, with their package name restored, as an installable source tree."""
    with zipfile.ZipFile(archive) as files:
        for name in files.namelist():
            if not name.startswith("LabGym/detectron2/") or name.endswith("/"):
                continue
            content = files.read(name)
            if name.endswith(".py"):
                content = re.sub(rb"\bLabGym\.detectron2\b", b"detectron2", content)
            target = folder / "src" / name.removeprefix("LabGym/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
    (folder / "pyproject.toml").write_text(PYPROJECT)


def install_from_archive() -> None:
    """Download and install Detectron2's Python files."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        extract_package(download_archive(folder), folder / "detectron2")
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
        if subprocess.run([*command, str(folder / "detectron2")]).returncode != 0:
            raise InstallError("pip could not install the files taken from the archive")


def warn_of_unusable_commit(init_file: str) -> None:
    """Warn about commits after 2024-12, whose Cityscapes evaluator imports internal modules."""
    evaluator = Path(init_file).parent / "evaluation" / "cityscapes_evaluation.py"
    if "deeplearning.projects" in evaluator.read_text():
        print(
            "warning: this Detectron2 imports `deeplearning.projects` in its Cityscapes "
            "evaluator, which exists inside Meta only. Evaluating Cityscapes will fail; commit "
            "c69939aa85460e8135f40bce908a6cddaa73065f is the last one without it."
        )


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only check, install nothing")
    args = parser.parse_args(argv)

    found, reason = find_detectron2()
    source = "already installed"
    if found is None and args.check:
        print(f"Detectron2 cannot be imported ({reason}). Run this script without --check.")
        return 1
    if found is None:
        print(f"Detectron2 cannot be imported ({reason}); installing it from {ARCHIVE} ...")
        try:
            install_from_archive()
        except InstallError as error:
            print(f"error: {error}.\nInstall Detectron2 by its own guide: {INSTALL_MD}")
            return 1
        source = f"Python files from {ARCHIVE} on PyPI, no compiled operators"
        found, reason = find_detectron2()
        if found is None:
            print(f"error: installed, but cannot be imported: {reason}")
            return 1
    warn_of_unusable_commit(found)
    print(f"Detectron2: {found} ({source})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
