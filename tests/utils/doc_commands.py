"""The commands of README and docs, and the test that runs each of them.

A command that no pattern matches fails `test_docs.py`: run it in a test and add a row.
"""

import re
from collections.abc import Iterator
from pathlib import Path

HEAVY = "too heavy: "

# Regular expression for the start of a command; the test that runs it (on small data, with mini
# models), or HEAVY and the reason why none does. The first match counts.
COMMANDS = [
    # set-up
    (r"make demo", "tests/tools/test_run_mini_demo.py"),
    (r"make test$", HEAVY + "it runs the tests"),
    (r"make setup$", HEAVY + "it downloads gigabytes; continuous integration begins with it"),
    (r"make (lint|types)$", HEAVY + "continuous integration runs it"),
    (r"pip install pre-commit", HEAVY + "optional, for developers"),
    (r"pip install", "tests/test_release.py"),
    (r"python tools/install_detectron2\.py", "tests/tools/test_install_detectron2.py"),
    # data
    (r"python datasets/make_mini\.py", "tests/datasets/test_make_mini.py"),
    (r"python datasets/prepare_kitti_depth\.py", "tests/datasets/test_prepare_kitti_depth.py"),
    (r"python datasets/prepare_nyu_depth_v2\.py", "tests/datasets/test_prepare_nyu_depth_v2.py"),
    (r"python datasets/prepare_\w+\.py", "tests/datasets/test_prepare_sem_seg.py"),
    (
        r"CITYSCAPES_DATASET=\S+ csCreate",
        HEAVY + "it reads all of Cityscapes",
    ),
    # training and evaluation
    (r"export DETECTRON2_ENV_MODULE=shapes_data\.py", "tests/docs/test_custom_dataset.py"),
    (r"python tools/.*shapes", "tests/docs/test_custom_dataset.py"),
    (r"export DETECTRON2_ENV_MODULE=birds_data\.py", "tests/docs/test_custom_keypoints.py"),
    (r"python tools/.*birds", "tests/docs/test_custom_keypoints.py"),
    (r"python tools/train_net\.py .*configs/compose", "tests/compose/test_yaml.py"),
    (r"python tools/train_net\.py .*depth", "tests/tools/test_train_net_depth.py"),
    (r"python tools/train_net\.py .*pose", "tests/tools/test_train_net_pose.py"),
    (r"python tools/train_net\.py .*SIZES_FROM", "tests/checkpoint/test_stable_diffusion.py"),
    (r"python tools/train_net\.py", "tests/tools/test_train_net.py"),
    (r"torchrun .*tools/train_net\.py", "tests/tools/test_train_net_torchrun.py"),
    (r"srun .*tools/train_net\.py", "tests/engine/test_cluster.py"),
    (r"export MASTER_ADDR=\$\(scontrol", HEAVY + "it needs SLURM"),
    (r"python train_heights\.py", "tests/docs/test_new_task.py"),
    # every other tool has a test file of the same name
    (r"python tools/(\w+)\.py", r"tests/tools/test_\1.py"),
]

# Start of a command in a block without a language, where other lines may be a tree of files.
_PROGRAMS = (
    r"(?:[A-Z_]+=\S+ )*"
    r"(?:python3?|torchrun|srun|pip|make|git|cd|export|wget|curl|unzip|tar|cs[A-Z]\w+)\b"
)


def commands_of(page: Path) -> Iterator[str]:
    """Yield the commands in the fenced blocks of a page, continued lines joined."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    for language, content in blocks:
        for line in content.replace("\\\n", " ").splitlines():
            is_command = language in ("sh", "bash", "console") or re.match(_PROGRAMS, line)
            if is_command and language in ("", "sh", "bash", "console") and line.strip():
                # Three spaces or a "#" begin a remark.
                yield re.split(r" {3,}(?=[^-A-Z\s])|\s+#", re.sub(r"^\$ ", "", line.strip()))[0]


def stand_in(command: str) -> str | None:
    """Look a command up in `COMMANDS`: the test file, or HEAVY and the reason."""
    for pattern, what in COMMANDS:
        if found := re.match(pattern, re.sub(r"\s+", " ", command)):
            return what if what.startswith(HEAVY) else found.expand(what)
    return None
