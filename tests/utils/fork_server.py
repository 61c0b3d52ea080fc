"""Runs Python scripts in forks of a process that has imported the libraries (seconds, each time).

Detectron2 and the package are imported by each fork, because they read the environment.

Reads one JSON object a line: "command" (a script and its arguments), "folder" (where it runs),
"environment", "output" and "errors" (files). Answers each with a line, the exit status.
"""

import importlib
import json
import os
import runpy
import sys
from functools import partial
from pathlib import Path

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


def run(request: dict) -> None:
    """Run a request's script as the interpreter does."""
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
    request = serve()
    if request is not None:
        run(request)
