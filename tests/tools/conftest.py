"""Runs the real scripts in processes of their own, on a small mini world."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def mini_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DETECTRON2_DATASETS folder with six scenes to train on and five to test on."""
    root = tmp_path_factory.mktemp("datasets")
    arguments = "--num-train 6 --num-val 5 --height 64 --width 128".split()
    command = [sys.executable, str(ROOT / "datasets/make_mini.py"), *arguments]
    subprocess.run([*command, "--output", str(root / "mini")], check=True, capture_output=True)
    return root


@pytest.fixture(scope="session")
def start_tool(
    mini_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., tuple[subprocess.Popen, Path]]:
    """Start `tools/<name>` from the project's root, with one thread a process.

    Returns the process and the file of its output (a pipe that nobody reads would fill up).
    """

    def start(name: str, *arguments: object, **environment: str) -> tuple[subprocess.Popen, Path]:
        log = tmp_path_factory.mktemp("log") / "output.txt"
        settings = {
            "DETECTRON2_DATASETS": str(mini_data),
            "OMP_NUM_THREADS": "1",
            "PYTHONWARNINGS": "ignore",
        }
        with log.open("w") as stream:
            process = subprocess.Popen(
                [sys.executable, str(ROOT / "tools" / name), *map(str, arguments)],
                cwd=ROOT,
                env=os.environ | settings | environment,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        return process, log

    return start


@pytest.fixture(scope="session")
def run_tool(start_tool: Callable[..., tuple[subprocess.Popen, Path]]) -> Callable[..., str]:
    """Run a tool to its end; returns its output. Fails unless it ends as expected."""

    def run(name: str, *arguments: object, fails: bool = False, **environment: str) -> str:
        process, log = start_tool(name, *arguments, **environment)
        status = process.wait(timeout=300)
        output = log.read_text()
        assert (status != 0) == fails, output[-4000:]
        assert not fails or "Traceback" not in output, output[-4000:]
        return output

    return run
