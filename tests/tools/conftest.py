"""Runs the real scripts in processes of their own, on a small mini world."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from scripts import ROOT, run_script


@pytest.fixture(scope="session")
def mini_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DETECTRON2_DATASETS folder with six scenes to train on and five to test on."""
    root = tmp_path_factory.mktemp("datasets")
    arguments = "--num-train 6 --num-val 5 --height 64 --width 128".split()
    run_script("datasets/make_mini.py", *arguments, "--output", root / "mini").check_returncode()
    return root


@pytest.fixture(scope="session")
def start_tool(
    mini_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., tuple[subprocess.Popen, Path]]:
    """Start `tools/<name>` in a new process, from the project's root.

    Returns the process and the file of its output (a pipe that nobody reads would fill up).
    """

    def start(name: str, *arguments: object, **environment: str) -> tuple[subprocess.Popen, Path]:
        log = tmp_path_factory.mktemp("log") / "output.txt"
        with log.open("w") as stream:
            process = subprocess.Popen(
                [sys.executable, str(ROOT / "tools" / name), *map(str, arguments)],
                cwd=ROOT,
                env=os.environ | {"DETECTRON2_DATASETS": str(mini_data)} | environment,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        return process, log

    return start


@pytest.fixture(scope="session")
def run_tool(mini_data: Path) -> Callable[..., str]:
    """Run `tools/<name>` to its end; returns its output. Fails unless it ends as expected."""

    def run(name: str, *arguments: object, fails: bool = False, **environment: str) -> str:
        environment = {"DETECTRON2_DATASETS": str(mini_data)} | environment
        done = run_script(f"tools/{name}", *arguments, **environment)
        output = done.stdout + done.stderr
        assert (done.returncode != 0) == fails, output[-4000:]
        assert not fails or "Traceback" not in output, output[-4000:]
        return output

    return run
