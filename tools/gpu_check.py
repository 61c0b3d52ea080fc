r"""Check and measure this package on a machine with one NVIDIA GPU, within 8 minutes.

    python tools/gpu_check.py
    python tools/gpu_check.py --only equality training no_waiting
    python tools/gpu_check.py --device cpu --only loaders

It needs no network. Every part runs in a process of its own with a time limit, and a part that
fails doesn't stop the others. Checks come first, a few at once if there are enough cores, then
measurements, one after the other. After each part, the report is written again:
gpu_check.md and gpu_check.json in the output folder, next to a folder with the log of each part.
`--device cpu` runs what a CPU can, with mini models. docs/performance.md explains the parts.
"""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock

import torch
from benchmarking.machine import describe
from tabulate import tabulate

ROOT = Path(__file__).resolve().parent.parent
PASSED, FAILED, SKIPPED = "passed", "FAILED", "skipped"
_TAIL = 40  # lines of a log to print and to report


@dataclass(frozen=True)
class Part:
    """A part of the check.

    Attributes:
        name: Name for `--only` and of the part's folder.
        shows: What the part shows.
        command: Arguments of Python, with the names of `values_of` in braces.
        limit: Most seconds that the part may take.
        alone: Whether nothing else may run meanwhile, because the part measures.
    """

    name: str
    shows: str
    command: str
    limit: float
    alone: bool = False


@dataclass
class Result:
    """Result of a part: its state, the seconds it took, its log's end and what it measured."""

    name: str
    state: str = "not run: no time left"
    seconds: float = 0.0
    tail: str = ""
    measured: dict | None = None


_TEST = "-m pytest -v --no-header -rfEs --tb=short -m gpu --test-device {device} tests/gpu/test_"
_RANDOM = ' MODEL.DEVICE {device} MODEL.DIFFUSION.WEIGHTS "" '
_MEASURE = "tools/benchmark.py --config-file {seg} --rounds 2 --output-dir {folder}" + _RANDOM
# BatchNorm can't be trained on one image.
_TRAIN = _MEASURE + "--train --batch-size 1 MODEL.SEM_SEG_HEAD.NORM GN --size "
_COMPILED = _MEASURE + "--compile {compiled} --size {large} {large}"
_LOADER = (
    _MEASURE + "--no-inference --data DATALOADER.NUM_WORKERS {workers} "
    "DATASETS.TRAIN \"('mini_cityscapes_fine_sem_seg_train',)\""
)
_MEMORY = "tools/training_memory.py --config-file {depth} --run {ladder}" + _RANDOM
_WORLD = (
    "datasets/make_mini.py --num-train 16 --num-val 2 --height 512 --width 1024 --overwrite "
    "--output {output}/datasets/mini"
)

PARTS = [
    Part("equality", "official outputs; errors of half precision", _TEST + "equality.py", 60),
    Part("loaders", "batches in pinned memory", _TEST + "loaders.py", 60),
    Part("training", "all tasks; loss scaling, clipping, resume", _TEST + "training.py", 120),
    Part("compilation", "torch.compile, CUDA graphs; sizes", _TEST + "compilation.py", 150),
    Part("no_waiting", "the host never waits in an iteration", _TEST + "no_waiting.py", 60),
    Part("distributed", "NCCL with one process, SyncBN with two", _TEST + "distributed.py", 60),
    Part("train_net", "fp16 training, evaluation, resume", _TEST + "train_net.py", 120),
    Part("world", "draws images for loader_rate", _WORLD, 60),
    Part("benchmark_512", "variants at 512x512", _TRAIN + "{small} {small}", 90, alone=True),
    Part("benchmark_1024", "variants at 1024x1024", _TRAIN + "{large} {large}", 120, alone=True),
    Part("loader_rate", "images per second of the training loader", _LOADER, 60, alone=True),
    Part("memory", "peak memory of training steps", _MEMORY, 90, alone=True),
    Part("benchmark_compiled", "compiled, at 1024x1024", _COMPILED, 180, alone=True),
]


def values_of(device: str, part: Part, output_dir: Path) -> dict[str, str]:
    """Give the values of the names in commands; a CPU gets mini models and small images."""
    modes = ["default", "reduce-overhead"] if device != "cpu" else ["default"]
    values = {
        "device": device,
        "output": shlex.quote(str(output_dir)),
        "folder": shlex.quote(str(output_dir / part.name)),
        "compiled": " ".join(f'--variant "all, bf16, compiled ({mode})"' for mode in modes),
    }
    if device == "cpu":
        mini = {"seg": "configs/mini/cityscapes_seg.yaml", "depth": "configs/mini/kitti_depth.yaml"}
        return values | mini | {"small": "64", "large": "64", "ladder": "", "workers": "0"}
    recipes = {"seg": "configs/cityscapes_seg.yaml", "depth": "configs/nyu_depth.yaml"}
    sizes = {"small": "512", "large": "1024"}
    return values | recipes | sizes | {"ladder": "--ladder", "workers": "4"}


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """Parse and check the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [part.name for part in PARTS]
    parser.add_argument("--only", nargs="+", choices=names, metavar="PART", help=", ".join(names))
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--minutes", type=float, default=8.0, help="default: %(default)s")
    parser.add_argument("--output-dir", type=Path, default=Path("output/gpu_check"))
    args = parser.parse_args(argv)
    if args.device != "cpu" and not torch.cuda.is_available():
        parser.exit(1, "error: no GPU here. --device cpu runs what a CPU can\n")
    return args


def run_part(part: Part, device: str, output_dir: Path, seconds: float) -> Result:
    """Run a part in a process of its own, which is ended with all it started at its time limit."""
    folder = output_dir / part.name
    folder.mkdir(parents=True, exist_ok=True)
    for former in ("benchmark.md", "benchmark.json"):
        (folder / former).unlink(missing_ok=True)
    command = shlex.split(part.command.format(**values_of(device, part, output_dir)))
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {"PYTHONPATH": os.pathsep.join(paths), "PYTHONWARNINGS": "ignore"}
    environment |= {"DETECTRON2_DATASETS": str(output_dir / "datasets"), "HF_HUB_OFFLINE": "1"}
    start = time.monotonic()
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-u", *command],
            cwd=ROOT,
            env=os.environ | environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            state = PASSED if process.wait(seconds) == 0 else FAILED
        except subprocess.TimeoutExpired:
            state = f"FAILED: not done after {seconds:.0f} s"
        finally:
            with suppress(ProcessLookupError):  # nothing is left
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    lines = (folder / "log.txt").read_text(errors="replace").splitlines()[-_TAIL:]
    if state == PASSED and "pytest" in command and " passed" not in "".join(lines[-1:]):
        state = SKIPPED
    file = folder / "benchmark.json"
    return Result(
        name=part.name,
        state=state,
        seconds=time.monotonic() - start,
        tail="\n".join(lines),
        measured=json.loads(file.read_text()) if file.is_file() else None,
    )


def write_report(machine: dict, results: Mapping[Part, Result], output_dir: Path) -> None:
    """Write gpu_check.md and gpu_check.json."""
    rows = [
        (part.name, part.shows, result.state, f"{result.seconds:.0f}", f"{part.limit:.0f}")
        for part, result in results.items()
    ]
    head = ", ".join(f"{key} {value}" for key, value in machine.items())
    table = tabulate(rows, ["part", "shows", "result", "s", "limit, s"], "github")
    texts = ["# GPU check", head, table]
    for result in results.values():
        page = output_dir / result.name / "benchmark.md"
        if result.measured is not None:
            texts.append(page.read_text().replace("# ", "## ").rstrip())
        elif result.tail:
            texts += [f"## {result.name}", f"```\n{result.tail}\n```"]
    (output_dir / "gpu_check.md").write_text("\n\n".join(texts) + "\n")
    report = {"machine": machine, "parts": [asdict(result) for result in results.values()]}
    (output_dir / "gpu_check.json").write_text(json.dumps(report, indent=2))


def check(parts: Sequence[Part], device: str, output_dir: Path, seconds: float) -> list[Result]:
    """Run parts as long as there is time, and report on all of them."""
    output_dir = output_dir.resolve()
    machine, end = describe(torch.device(device)), time.monotonic() + seconds
    results = {part: Result(part.name) for part in parts}
    one_at_a_time = Lock()

    def run(part: Part) -> None:
        left = end - time.monotonic()
        if left > 0:
            results[part] = result = run_part(part, device, output_dir, min(part.limit, left))
        with one_at_a_time:
            if left > 0:
                state = f"{part.name}: {result.state}, {result.seconds:.0f} s"
                print(f"--- {part.name}: {part.shows}\n{result.tail}\n{state}", flush=True)
            write_report(machine, results, output_dir)

    with ThreadPoolExecutor(max(min((os.cpu_count() or 1) // 4, 4), 1)) as pool:
        list(pool.map(run, [part for part in parts if not part.alone]))
    for part in parts:
        if part.alone:
            run(part)
    return list(results.values())


def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    args = parse_arguments(argv)
    parts = [part for part in PARTS if args.only is None or part.name in args.only]
    results = check(parts, args.device, args.output_dir, 60 * args.minutes)
    print(f"the report: {args.output_dir / 'gpu_check.md'}")
    if open_ := [result.name for result in results if result.state not in (PASSED, SKIPPED)]:
        sys.exit(f"error: failed or not run: {', '.join(open_)}")


if __name__ == "__main__":
    main()
