"""Runs the mini demo, whose scripts are forks: they needn't import the libraries again."""

import os
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))

import run_mini_demo


class ForkedPopen:
    """`subprocess.Popen` of a Python script, as far as the demo uses it."""

    def __init__(self, command: list[str], *, env: dict[str, str], **_: object):
        read, write = os.pipe()
        sys.stdout.flush()
        self._child = os.fork()
        if not self._child:
            os.dup2(write, sys.stdout.fileno())
            os.dup2(write, sys.stderr.fileno())
            os.environ.update(env)
            sys.argv = command[1:]
            runpy.run_path(sys.argv[0], run_name="__main__")
            sys.exit()
        os.close(write)
        self.stdout = os.fdopen(read, errors="replace")

    def __enter__(self) -> "ForkedPopen":
        return self

    def __exit__(self, *_: object) -> None:
        self.stdout.close()
        self.returncode = os.waitstatus_to_exitcode(os.waitpid(self._child, 0)[1])


if __name__ == "__main__":
    run_mini_demo.subprocess = SimpleNamespace(**vars(subprocess) | {"Popen": ForkedPopen})
    run_mini_demo.main()
