"""`tools/gpu_check.py`: parts that pass, fail and take too long, and a report on all of them."""

import json
import re
import shlex
import time
from collections.abc import Callable
from pathlib import Path

import benchmark
import gpu_check
import pytest
import torch
from gpu_check import PARTS, Part, check, values_of

ROOT = Path(__file__).resolve().parents[2]
# Writes the id of a process that it starts, which outlives it.
OUTLIVED = """
import pathlib, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(60)"])
pathlib.Path(sys.argv[1], "child").write_text(str(child.pid))
print("begun", flush=True)
time.sleep(60)
"""


def python(code: str) -> str:
    """Make the command of a part that runs code."""
    return f"-S -c {shlex.quote(code)}".replace("{", "{{").replace("}", "}}") + " {folder}"


def is_running(process: int) -> bool:
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_the_report_has_all_parts_whatever_becomes_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    measured = {"inference": {"size": [64, 64]}}
    write = (
        "import pathlib, sys; folder = pathlib.Path(sys.argv[1]); "
        f"(folder / 'benchmark.json').write_text('''{json.dumps(measured)}'''); "
        "(folder / 'benchmark.md').write_text('# Measured\\n\\n## Inference\\n')"
    )
    parts = [
        Part("good", "that it works", python("print('fine')"), 30),
        Part("bad", "an error", python("print('before'); raise ValueError('of the part')"), 30),
        Part("long", "a limit", python(OUTLIVED), 2),
        Part("measure", "numbers", python(write), 30),
        Part("other", "what needs a GPU", "-m pytest -q {output}/test_other.py", 30),
    ]
    skipped = "import pytest\n\ndef test_other():\n    pytest.skip('no GPU')\n"
    (tmp_path / "test_other.py").write_text(skipped)
    results = check(parts, "cpu", tmp_path, 60)
    states = {result.name: result.state for result in results}
    assert states == {
        "good": "passed",
        "bad": "FAILED",
        "long": "FAILED: not done after 2 s",
        "measure": "passed",
        "other": "skipped",
    }
    child = int((tmp_path / "long/child").read_text())
    deadline = time.monotonic() + 5
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_running(child)

    report = json.loads((tmp_path / "gpu_check.json").read_text())
    assert report["machine"]["torch"] == torch.__version__
    tails = {part["name"]: part["tail"] for part in report["parts"]}
    assert tails["good"] == "fine"
    assert (
        tails["bad"].startswith("before\nTraceback") and "ValueError: of the part" in tails["bad"]
    )
    assert tails["long"] == "begun"
    assert [part["measured"] for part in report["parts"]] == [None, None, None, measured, None]
    text = (tmp_path / "gpu_check.md").read_text()
    assert re.search(r"^\| bad +\| an error +\| FAILED +\| +\d+ \| +30 \|$", text, re.MULTILINE)
    assert "## bad\n\n```\nbefore\n" in text
    assert "## Measured\n\n### Inference\n" in text
    assert "good: passed, " in capsys.readouterr().out


def test_without_time_left_parts_are_not_run_and_the_report_says_so(tmp_path: Path) -> None:
    parts = [Part(name, "a limit", python("import time; time.sleep(60)"), 60) for name in "ab"]
    first, second = check(parts, "cpu", tmp_path, 0.3)
    assert first.state == "FAILED: not done after 0 s"
    assert second.state == "not run: no time left"
    assert "not run: no time left" in (tmp_path / "gpu_check.md").read_text()


def test_a_machine_without_a_gpu_gets_one_line(run_tool: Callable[..., str]) -> None:
    output = run_tool("gpu_check.py", fails=True, CUDA_VISIBLE_DEVICES="")
    assert output == "error: no GPU here. --device cpu runs what a CPU can\n"


def test_a_part_runs_on_a_cpu(tmp_path: Path) -> None:
    gpu_check.main(["--device", "cpu", "--only", "loaders", "--output-dir", str(tmp_path)])
    (part,) = json.loads((tmp_path / "gpu_check.json").read_text())["parts"]
    assert part["state"] == "passed" and "2 passed" in part["tail"].splitlines()[-1]


def test_every_test_for_gpus_belongs_to_a_part() -> None:
    marked = {
        str(file.relative_to(ROOT))
        for file in (ROOT / "tests").rglob("test_*.py")
        if "pytest.mark.gpu" in file.read_text() and file != Path(__file__)
    }
    run = {word for part in PARTS for word in part.command.split() if word.startswith("tests/")}
    assert run == marked


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_commands_name_files_and_variants_that_exist(device: str, tmp_path: Path) -> None:
    for part in PARTS:
        folder = tmp_path / "a folder"
        words = shlex.split(part.command.format(**values_of(device, part, folder)))
        files = [word for word in words if re.search(r"\.(py|yaml)$", word)]
        assert files and all((ROOT / file).is_file() for file in files), part
        if words[0] == "tools/benchmark.py":
            args = benchmark.parse_arguments(words[1:])
            assert args.output_dir == folder / part.name
            target = torch.device(device)
            benchmark.check_names(args.variant or (), target, compiled=args.compile)
            benchmark.load_config(args.config_file, args.opts)
