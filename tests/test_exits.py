"""A fork of a test's process leaves what belongs to that process."""

from pathlib import Path

from scripts import ROOT, run_script

SCRIPT = """
import os, sys
from pathlib import Path
sys.path.append({utils!r})
from exits import register_at_exit
register_at_exit(lambda: print("end of", os.getpid(), flush=True))
if not (child := os.fork()):
    sys.exit()
os.waitpid(child, 0)
print("process", os.getpid(), flush=True)
"""


def test_a_function_is_called_at_the_end_of_its_own_process_only(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(utils=str(ROOT / "tests/utils")))
    process, end = run_script(script).stdout.splitlines()
    assert end == process.replace("process", "end of")
