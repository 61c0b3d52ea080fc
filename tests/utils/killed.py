"""Kills a script as soon as it has written a file: `killed.py FILE SCRIPT ...`.

The script is a fork, so that it needn't import the libraries again. The status is the number of the
signal that ended it.
"""

import os
import runpy
import signal
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    file, sys.argv = Path(sys.argv[1]), sys.argv[2:]
    script = os.fork()
    if not script:
        runpy.run_path(sys.argv[0], run_name="__main__")
        sys.exit()
    while (
        not file.exists()
        and os.waitid(os.P_PID, script, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
    ):
        time.sleep(0.01)
    os.kill(script, signal.SIGKILL)  # does nothing to a process that has ended
    sys.exit(-os.waitstatus_to_exitcode(os.waitpid(script, 0)[1]))
