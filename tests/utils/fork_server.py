"""Runs Python scripts in forks of a process that has imported the libraries (seconds, each time).

Detectron2 and the package are imported by each fork, because they read the environment.

Reads one JSON object a line: "command" (a script and its arguments), "folder" (where it runs),
"environment", "output" and "errors" (files). Answers each with a line, the exit status.
"""

import atexit
import gc
import importlib
import json
import os
import runpy
import sys
import threading
from functools import partial
from pathlib import Path
from typing import NoReturn

LIBRARIES = """
cv2 diffusers.models.autoencoders.autoencoder_kl diffusers.models.unets.unet_2d_condition fvcore.nn
h5py hydra matplotlib.pyplot omegaconf peft pycocotools.cocoeval scipy.io scipy.optimize torch.onnx
torch.utils.tensorboard torchvision.ops tqdm
"""


def serve() -> dict | None:
    """Fork for each request; a child returns with its own, the server with None at the end."""
    for line in sys.stdin:
        child = os.fork()
        if not child:
            return json.loads(line)
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)
    return None


def run(request: dict) -> NoReturn:
    """Run a request's script as the interpreter does, and leave.

    To free everything that was imported, as the interpreter does at its end, would take seconds.
    """
    status: object = 0
    try:
        run_script(request)
    except SystemExit as stop:
        status = stop.code or 0
        if not isinstance(status, int):
            print(status, file=sys.stderr)
            status = 1
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
        status = 1
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def run_script(request: dict) -> None:
    """Run the script with the request's streams, environment, folder and arguments."""
    create = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    for stream, file in enumerate((os.devnull, request["output"], request["errors"])):
        os.dup2(os.open(file, create if stream else os.O_RDONLY), stream)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    # Processes of a launch needn't import everything again, either.
    torch = importlib.import_module("torch.multiprocessing")
    torch.start_processes = partial(torch.start_processes, start_method="fork")
    sys.argv = request["command"]
    script = Path(sys.argv[0])
    sys.path[:1] = [str(script.parent), *filter(None, os.getenv("PYTHONPATH", "").split(":"))]
    runpy.run_path(str(script), run_name="__main__")


if __name__ == "__main__":
    for library in LIBRARIES.split():
        importlib.import_module(library)
    gc.freeze()  # a collection would touch, and so copy, all of their memory
    request = serve()
    if request is not None:
        run(request)
