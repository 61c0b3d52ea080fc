"""`tools/look_inside.py` draws steps and prompts of a model."""

from pathlib import Path

import cv2
import look_inside
import numpy as np
import pytest
from random_weights import random_weights

from metaprompt_d2.inference.prompt_responses import Association, TracedStep

STEPS = ("MODEL.META_PROMPT.REFINE_STEPS", "2")


def options_of(config: str) -> list[str]:
    """Options that load an untrained model on the CPU."""
    weights = random_weights(f"mini/{config}.yaml", *STEPS)
    return ["--opts", "MODEL.DEVICE", "cpu", *STEPS, "INPUT.MIN_SIZE_TEST", "0", *weights]


@pytest.fixture
def photo(tmp_path: Path) -> str:
    file = tmp_path / "photo.png"
    cv2.imwrite(str(file), np.random.randint(0, 256, (64, 128, 3), np.uint8))
    return str(file)


@pytest.mark.parametrize("config", ["cityscapes_seg", "kitti_depth", "coco_pose"])
def test_steps_and_prompts_are_drawn(
    photo: str, tmp_path: Path, config: str, capsys: pytest.CaptureFixture
) -> None:
    arguments = ["--config-file", f"mini/{config}.yaml", "--input", photo]
    options = [*options_of(config), "INPUT.PERSON_CROP.SIZE", "(192, 128)"]
    look_inside.main([*arguments, "--output", str(tmp_path / "out"), *options])
    steps = cv2.imread(str(tmp_path / "out/photo_steps.png"))
    prompts = cv2.imread(str(tmp_path / "out/photo_prompts.png"))
    # Of the crop, or the image, whose shorter side is 192 pixels, and of the title.
    height, width, title = (288, 192, 20) if config == "coco_pose" else (192, 384, 14)
    assert steps.shape == (2 * (height + title + 4), 2 * height + 5 * (width + 4), 3)
    assert prompts.shape == (6 * (height + title + 4), 6 * (width + 4) - 4, 3)
    table = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in table[table.index(next(t for t in table if "---" in t)) + 1 :]]
    assert [row[0] for row in rows] == ["1", "2"] * 4
    assert len({row[1] for row in rows}) == 4


def test_every_step_has_its_own_correlations(
    photo: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles = []
    draw = look_inside.draw_table
    monkeypatch.setattr(
        look_inside,
        "draw_table",
        lambda rows: titles.extend([title for title, _ in row] for row in rows) or draw(rows),
    )
    numbers = iter(range(100))
    associate = look_inside.associate_prompts
    computed: list[list[Association]] = []

    def record(step: TracedStep, *arguments: object, **options: object) -> list[Association]:
        computed.append(associate(step, *arguments, **options))
        found = Association(f"thing{next(numbers)}", 0.5)
        return [found] * len(computed[-1])

    monkeypatch.setattr(look_inside, "associate_prompts", record)
    arguments = ["--config-file", "mini/cityscapes_seg.yaml", "--input", photo, "--prompts", "3"]
    look_inside.main([*arguments, "--output", str(tmp_path), *options_of("cityscapes_seg")])
    assert [row[0] for row in titles] == ["step 1", "step 2"]
    assert [row[-1] for row in titles] == ["3: thing0 +0.50", "3: thing1 +0.50"]
    assert computed[0] != computed[1]


def test_prompts_and_feature_are_chosen(photo: str, tmp_path: Path) -> None:
    arguments = ["--config-file", "mini/cityscapes_seg.yaml", "--input", photo]
    arguments += ["--output", str(tmp_path / "out"), "--feature", "p4", "--prompts", "3", "0"]
    look_inside.main([*arguments, *options_of("cityscapes_seg")])
    assert cv2.imread(str(tmp_path / "out/photo_steps.png")).shape[1] == 4 * (384 + 4) - 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["--feature", "p9"], "the model has p2, p3, p4, p5"),
        (["--prompts", "32"], "the model has prompts 0 to 31"),
        (["--input", "gone.png"], "gone.png does not exist"),
    ],
)
def test_a_mistake_ends_in_one_line(
    photo: str, tmp_path: Path, changes: list[str], message: str
) -> None:
    arguments = ["--config-file", "mini/cityscapes_seg.yaml", "--input", photo]
    arguments += ["--output", str(tmp_path / "out"), *changes, *options_of("cityscapes_seg")]
    with pytest.raises(SystemExit, match=message):
        look_inside.main(arguments)
    assert not (tmp_path / "out").exists()
