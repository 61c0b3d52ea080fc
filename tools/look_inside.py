r"""Draw what each prompt responds to and what each refinement step changes.

    python tools/look_inside.py --config-file output/mini_cityscapes_seg/config.yaml \
        --input photo.jpg --output inside \
        --opts MODEL.WEIGHTS output/mini_cityscapes_seg/model_final.pth

This writes two pictures. `photo_steps.png` has a row for each refinement step: the head's
prediction from it, the change of the prompts' responses, and the responses of some prompts.
`photo_prompts.png` shows the responses of all prompts at the last step.
"""

import argparse
from pathlib import Path

import cv2
import numpy as np
from tabulate import tabulate

from metaprompt_d2 import Predictor, get_config
from metaprompt_d2.data.readers import read_image
from metaprompt_d2.inference.prompt_responses import (
    WHOLE_IMAGES,
    Association,
    RefinementTrace,
    associate_prompts,
    look_inside,
    select_prompts,
)
from metaprompt_d2.utils.errors import InputError, one_line_errors
from metaprompt_d2.utils.files import write_png
from metaprompt_d2.visualization import (
    draw_change,
    draw_overlay,
    draw_prompts,
    draw_response,
    draw_table,
    response_range,
)

_LEAST_SIDE = 192  # pixels to which smaller pictures are enlarged


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--config-file", required=True, help="config file, or a name such as cityscapes_seg.yaml")
    add("--input", required=True, help="image to look at")
    add("--output", required=True, metavar="FOLDER", help="folder to write to, created if missing")
    add("--feature", help="feature map of the responses, such as p3 (default: the finest)")
    add("--prompts", nargs="+", type=int, help="prompts to draw (default: the most selective)")
    add("--opts", nargs=argparse.REMAINDER, default=[], help="config keys and values")
    return parser.parse_args(argv)


def at_height(picture: np.ndarray, height: int) -> np.ndarray:
    """Resize to a height, keeping the aspect ratio."""
    width = round(picture.shape[1] * height / picture.shape[0])
    return cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)


def enlarged_view(picture: np.ndarray, *, whole: bool) -> np.ndarray:
    """Resize so that both sides are at least `_LEAST_SIDE`, or exactly the shorter one."""
    factor = _LEAST_SIDE / min(picture.shape[:2])
    factor = max(factor, 1) if whole else factor
    return at_height(picture, round(picture.shape[0] * factor))


def title_of(prompt: int, association: Association) -> str:
    """Format a title such as `17: car +0.64`."""
    return f"{prompt}: {association.name} {association.correlation:+.2f}"


def steps_picture(
    trace: RefinementTrace,
    image: np.ndarray,
    predictor: Predictor,
    feature: str,
    prompts: list[int],
    found: list[list[Association]],
) -> np.ndarray:
    """Draw a row for each step: prediction, change, responses of some prompts.

    `found` has each step's associations of all prompts.
    """
    maps = [step.responses[feature].numpy() for step in trace.steps]
    seen = enlarged_view(trace.image, whole=True)
    scale = -(-seen.shape[0] // image.shape[0])  # class names need room
    rows = []
    for number, step in enumerate(trace.steps):
        overlay = draw_overlay(image, step.output, predictor.metadata, scale=scale)
        row = [(f"step {number + 1}", at_height(overlay, seen.shape[0]))]
        if number:
            row.append(("change", draw_change(seen, maps[number - 1], maps[number])))
        elif len(maps) > 1:
            row.append(("", None))
        for prompt in prompts:
            limits = response_range([step_maps[prompt] for step_maps in maps])
            response = draw_response(seen, maps[number][prompt], limits)
            row.append((title_of(prompt, found[number][prompt]), response))
        rows.append(row)
    return draw_table(rows)


def run(args: argparse.Namespace) -> None:
    """Run the model, write both pictures and print what the drawn prompts follow."""
    predictor = Predictor(get_config(args.config_file, [*args.opts, *WHOLE_IMAGES]))
    image = read_image(args.input, "RGB")
    trace = look_inside(predictor, args.input)
    last = trace.steps[-1]
    feature = args.feature or next(iter(last.responses))
    if feature not in last.responses:
        raise InputError(f"--feature {feature}: the model has {', '.join(last.responses)}")
    number = len(last.responses[feature])
    if not all(0 <= prompt < number for prompt in args.prompts or []):
        raise InputError(f"--prompts {args.prompts}: the model has prompts 0 to {number - 1}")
    found = [associate_prompts(step, predictor.metadata, feature=feature) for step in trace.steps]
    prompts = args.prompts or select_prompts(found[-1], 4)
    stem = Path(args.input).stem
    steps = steps_picture(trace, image, predictor, feature, prompts, found)
    titles = [title_of(prompt, association) for prompt, association in enumerate(found[-1])]
    seen = enlarged_view(trace.image, whole=False)
    sheet = draw_prompts(seen, last.responses[feature].numpy(), titles)
    for kind, picture in (("steps", steps), ("prompts", sheet)):
        file = Path(args.output) / f"{stem}_{kind}.png"
        write_png(picture, file)
        print(file)
    rows = [
        (number, prompt, *step[prompt])
        for prompt in prompts
        for number, step in enumerate(found, 1)
    ]
    print(tabulate(rows, ["step", "prompt", "follows", "correlation"], floatfmt="+.2f"))


@one_line_errors()
def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    run(parse_arguments(argv))


if __name__ == "__main__":
    main()
