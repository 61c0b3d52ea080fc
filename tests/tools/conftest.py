"""Runs the real scripts in processes of their own, on a small mini world."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def mini_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DETECTRON2_DATASETS folder with six scenes to train on and five to test on."""
    root = tmp_path_factory.mktemp("datasets")
    arguments = "--num-train 6 --num-val 5 --height 64 --width 128".split()
    command = [sys.executable, str(ROOT / "datasets/make_mini.py"), *arguments]
    subprocess.run([*command, "--output", str(root / "mini")], check=True, capture_output=True)
    return root


def settings(mini_data: Path) -> dict[str, str]:
    """The environment of tools."""
    return os.environ | {
        "DETECTRON2_DATASETS": str(mini_data),
        "OMP_NUM_THREADS": "1",
        "PYTHONWARNINGS": "ignore",
    }


@pytest.fixture(scope="session")
def start_tool(
    mini_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., tuple[subprocess.Popen, Path]]:
    """Start `tools/<name>` from the project's root, with one thread a process.

    Returns the process and the file of its output (a pipe that nobody reads would fill up).
    """

    def start(name: str, *arguments: object, **environment: str) -> tuple[subprocess.Popen, Path]:
        log = tmp_path_factory.mktemp("log") / "output.txt"
        with log.open("w") as stream:
            process = subprocess.Popen(
                [sys.executable, str(ROOT / "tools" / name), *map(str, arguments)],
                cwd=ROOT,
                env=settings(mini_data) | environment,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        return process, log

    return start


@pytest.fixture(scope="session")
def fork_tool(
    mini_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., tuple[int, Path]]]:
    """Run `tools/<name>` in a fork of a process with everything imported; status and output."""
    server = subprocess.Popen(
        [sys.executable, str(ROOT / "tests/utils/fork_server.py")],
        cwd=ROOT,
        env=settings(mini_data),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )

    def fork(name: str, *arguments: object) -> tuple[int, Path]:
        log = tmp_path_factory.mktemp("log") / "output.txt"
        script = str(ROOT / "tools" / name)
        request = {"script": script, "arguments": list(map(str, arguments)), "log": str(log)}
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        return int(server.stdout.readline()), log

    yield fork
    server.communicate()


@pytest.fixture(scope="session")
def run_tool(
    start_tool: Callable[..., tuple[subprocess.Popen, Path]],
    fork_tool: Callable[..., tuple[int, Path]],
) -> Callable[..., str]:
    """Run a tool to its end; returns its output. Fails unless it ends as expected.

    A tool starts from nothing the first time and with an environment of its own. After that a fork
    spares it the imports, unless there is a GPU, which a fork cannot use.
    """
    started = set()

    def run(name: str, *arguments: object, fails: bool = False, **environment: str) -> str:
        if name in started and not environment and not torch.cuda.is_available():
            status, log = fork_tool(name, *arguments)
        else:
            process, log = start_tool(name, *arguments, **environment)
            status = process.wait(timeout=300)
            started.add(name)
        output = log.read_text()
        assert (status != 0) == fails, output[-4000:]
        assert not fails or "Traceback" not in output, output[-4000:]
        return output

    return run
