"""The commands of README and docs, and what stands for each: a test, or why none runs it.

A command that no pattern fits fails `test_docs.py`: run it in a test and add a row.
"""

import re
from collections.abc import Iterator
from pathlib import Path

HEAVY = "too heavy: "

# Regular expression that a command begins with; the test that runs it (on small data, with mini
# models), or HEAVY and the reason. The first that fits holds.
COMMANDS = [
    # set-up
    (r"make demo", "tests/tools/test_run_mini_demo.py"),
    (r"make test$", HEAVY + "it is what runs the tests"),
    (r"make setup$", HEAVY + "it downloads gigabytes; continuous integration begins with it"),
    (r"make (lint|format)$", HEAVY + "developers' own"),
    (r"pip install", "tests/test_release.py"),
    (r"python tools/install_detectron2\.py", "tests/tools/test_install_detectron2.py"),
    # data
    (r"python datasets/make_mini\.py", "tests/datasets/test_make_mini.py"),
    (r"python datasets/prepare_kitti_depth\.py", "tests/datasets/test_prepare_kitti_depth.py"),
    (r"python datasets/prepare_nyu_depth_v2\.py", "tests/datasets/test_prepare_nyu_depth_v2.py"),
    (r"python datasets/prepare_\w+\.py", "tests/datasets/test_prepare_sem_seg.py"),
    (r"CITYSCAPES_DATASET=\S+ csCreate", HEAVY + "cityscapesscripts' own, on the whole Cityscapes"),
    # training and evaluation
    (r"export DETECTRON2_ENV_MODULE=shapes_data\.py", "tests/docs/test_custom_dataset.py"),
    (r"python tools/.*shapes", "tests/docs/test_custom_dataset.py"),
    (r"python tools/train_net\.py .*configs/compose", "tests/compose/test_yaml.py"),
    (r"python tools/train_net\.py .*depth", "tests/tools/test_train_net_depth.py"),
    (r"python tools/train_net\.py .*pose", "tests/tools/test_train_net_pose.py"),
    (r"python tools/train_net\.py .*SIZES_FROM", "tests/checkpoint/test_stable_diffusion.py"),
    (r"python tools/train_net\.py", "tests/tools/test_train_net.py"),
    (r"python train_heights\.py", "tests/docs/test_new_task.py"),
    # any other tool has a test of its name
    (r"python tools/(\w+)\.py", r"tests/tools/test_\1.py"),
]

# What a line of a block without language begins with where it is a command, and no file tree.
_PROGRAMS = r"(?:[A-Z_]+=\S+ )*(?:python3?|pip|make|git|cd|export|wget|curl|unzip|tar|cs[A-Z]\w+)\b"


def commands_of(page: Path) -> Iterator[str]:
    """Every command in the fenced blocks of a page, its lines joined."""
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.DOTALL | re.MULTILINE)
    for language, content in blocks:
        for line in content.replace("\\\n", " ").splitlines():
            is_command = language in ("sh", "bash", "console") or re.match(_PROGRAMS, line)
            if is_command and language in ("", "sh", "bash", "console") and line.strip():
                # What stands behind three blanks, or a #, is a remark.
                yield re.split(r" {3,}(?=[^-A-Z\s])|\s+#", re.sub(r"^\$ ", "", line.strip()))[0]


def stand_in(command: str) -> str | None:
    """The row of `COMMANDS` for a command: a test file, or HEAVY and a reason."""
    for pattern, what in COMMANDS:
        if found := re.match(pattern, re.sub(r"\s+", " ", command)):
            return what if what.startswith(HEAVY) else found.expand(what)
    return None
