"""Runs scripts in forks of a process that has imported the package already (seconds, each time).

Reads one JSON object a line: "script", "arguments", "log" (the file of the script's output), and
answers each with a line, its exit status.
"""

import json
import os
import runpy
import sys
from pathlib import Path

import metaprompt_d2  # noqa: F401
import metaprompt_d2.engine  # noqa: F401


def serve() -> dict | None:
    """Fork for each request; a child returns with its own, the server with None at the end."""
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if not child:
            return request
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    return None


if __name__ == "__main__":
    request = serve()
    if request is not None:
        log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for source, stream in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(source, stream)
        script = request["script"]
        sys.argv = [script, *request["arguments"]]
        sys.path[0] = str(Path(script).parent)
        runpy.run_path(script, run_name="__main__")
