"""Python scripts run as in processes of their own, but without waiting for imports."""

import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from exits import register_at_exit

__all__ = ["ROOT", "run_script"]

ROOT = Path(__file__).resolve().parents[2]


def run_script(
    script: str | Path, *arguments: object, folder: Path = ROOT, **environment: str
) -> subprocess.CompletedProcess:
    """Run a script to its end, in a folder and with further variables in its environment.

    It runs in a fork of a process that has the libraries imported. A fork cannot use a GPU: where
    there is one, the script gets a new process.
    """
    command = [str(ROOT / script), *map(str, arguments)]
    environment = os.environ | {"PYTHONWARNINGS": "ignore"} | environment
    if torch.cuda.is_available():
        process = [sys.executable, *command]
        return subprocess.run(process, cwd=folder, env=environment, capture_output=True, text=True)
    with tempfile.TemporaryDirectory() as logs:
        output, errors = Path(logs, "output"), Path(logs, "errors")
        request = {"command": command, "folder": str(folder), "environment": environment}
        request |= {"output": str(output), "errors": str(errors)}
        server = _start_server()
        server.stdin.write(json.dumps(request) + "\n")
        server.stdin.flush()
        status = int(server.stdout.readline())
        return subprocess.CompletedProcess(command, status, output.read_text(), errors.read_text())


@functools.cache
def _start_server() -> subprocess.Popen:
    server = subprocess.Popen(
        [sys.executable, "-W", "ignore", str(ROOT / "tests/utils/fork_server.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    register_at_exit(server.communicate)
    return server
