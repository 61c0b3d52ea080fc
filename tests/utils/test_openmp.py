"""Idle threads sleep, unless the user has said how they wait."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from metaprompt_d2.utils.openmp import set_wait_policy

NAMES = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")


def test_threads_sleep_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    set_wait_policy()
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


@pytest.mark.parametrize("name", NAMES)
def test_a_setting_of_the_user_stays(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for other in NAMES:
        monkeypatch.delenv(other, raising=False)
    monkeypatch.setenv(name, "7")
    set_wait_policy()
    assert {other: os.environ.get(other) for other in NAMES} == dict.fromkeys(NAMES) | {name: "7"}


@pytest.mark.parametrize("tool", ["train_net", "lazyconfig_train_net"])
def test_it_is_set_before_torch_is_imported(tool: str) -> None:
    """The tools' first import fails here; nothing has imported torch until then."""
    code = (
        "import os, runpy, sys; sys.modules['detectron2'] = None\n"
        f"try: runpy.run_path('tools/{tool}.py')\n"
        "except ModuleNotFoundError: print('torch' in sys.modules, os.environ['OMP_WAIT_POLICY'])"
    )
    environment = {key: value for key, value in os.environ.items() if key not in NAMES}
    output = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).resolve().parents[2],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert output.stdout.split() == ["False", "PASSIVE"]
