r"""Predict your own images, videos or a camera with any model of this package.

    python tools/demo.py --config-file configs/cityscapes_seg.yaml --input photos/ clip.mp4 \
        --output predicted --opts MODEL.WEIGHTS output/cityscapes_seg/model_best.pth
    python tools/demo.py --config-file configs/kitti_depth.yaml --webcam --show \
        --opts MODEL.WEIGHTS output/kitti_depth/model_best.pth

The config determines the task. The tool writes a picture for every image and a video for every
video; with `--raw` also label maps, 16-bit depth maps, or one keypoints.json in COCO's format.
Files that cannot be predicted are listed at the end, and the exit status is then 1.
"""

import argparse
import os
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from detectron2.utils.logger import setup_logger
from tqdm import tqdm

from metaprompt_d2 import Predictor, get_config
from metaprompt_d2.inference import PredictionFiles, Source, Video, VideoFile, find_sources
from metaprompt_d2.inference.given_boxes import read_boxes
from metaprompt_d2.utils.errors import InputError, MissingFileError, one_line_errors
from metaprompt_d2.utils.files import read_json, write_png
from metaprompt_d2.visualization import draw_overlay

_TITLE = "metaprompt_d2"
_ENDING_KEYS = {27, ord("q")}  # Esc, q


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse and check the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--config-file", required=True, help="config file, or a name such as cityscapes_seg.yaml")
    add("--input", nargs="+", default=[], help="images, videos, folders or glob patterns")
    add("--webcam", nargs="?", type=int, const=0, metavar="N", help="predict camera N (default: 0)")
    add("--output", metavar="FOLDER", help="folder to write to, created if missing")
    add("--raw", action="store_true", help="also write label maps, depth maps or keypoints")
    add("--no-overlay", action="store_true", help="write no pictures")
    add("--show", action="store_true", help="show predictions in a window; press q or Esc to stop")
    add("--batch-size", type=int, default=1, help="images per batch (default: 1)")
    add("--depth-scale", type=float, default=256.0, help="depth values per meter (default: 256)")
    add("--boxes", metavar="JSON", help='people to pose: {"photo.jpg": [[x0, y0, x1, y1], ...]}')
    add("--opts", nargs=argparse.REMAINDER, default=[], help="config keys and values")
    args = parser.parse_args(argv)
    if bool(args.input) == (args.webcam is not None):
        parser.error("give either --input or --webcam")
    if not (args.output or args.show):
        parser.error("give --output, --show or both")
    if args.output is None and (args.raw or args.no_overlay):
        parser.error("--raw and --no-overlay need --output")
    if args.no_overlay and not (args.raw or args.show):
        parser.error("--no-overlay without --raw leaves nothing to write")
    if args.batch_size < 1 or args.depth_scale <= 0:
        parser.error("--batch-size and --depth-scale must be positive")
    return args


def read_box_file(file: str | None, sources: list[Source]) -> dict[str, Any]:
    """Read people's boxes by image file; the JSON names files with or without their folder.

    Raises:
        InputError: The file holds no such mapping, or names a file that isn't an input.
    """
    if file is None:
        return {}
    content = read_json(file)
    if not isinstance(content, dict):
        raise InputError(f"{file} holds no mapping of image files to boxes")
    names = Counter(os.path.basename(source.file) for source in sources)
    known = {os.path.basename(source.file): source.file for source in sources}
    known = {name: file for name, file in known.items() if names[name] == 1}
    known |= {source.file: source.file for source in sources}
    for name, boxes in content.items():
        if name not in known:
            reason = "is the name of several inputs" if names[name] else "isn't an input"
            raise InputError(f"{file} has boxes for {name}, which {reason}")
        read_boxes(boxes, f"{file}: boxes of {name}")  # before the model is loaded
    return {known[name]: boxes for name, boxes in content.items()}


def check_output(args: argparse.Namespace, sources: list[Source]) -> None:
    """Check that no output replaces an input or the output of another input.

    Raises:
        MissingFileError: --output is a file.
        InputError: An output would replace an input or another output.
    """
    folder = Path(args.output)
    if folder.exists() and not folder.is_dir():
        raise MissingFileError(f"--output {folder} isn't a folder")
    inputs = {os.path.realpath(source.file) for source in sources}
    targets: dict[Path, str] = {}
    for source in sources:
        endings = [] if args.no_overlay else [".mp4" if source.is_video else ".png"]
        if args.raw and not source.is_video:
            endings += PredictionFiles.ENDINGS
        for target in (folder / f"{source.name}{ending}" for ending in endings):
            if os.path.realpath(target) in inputs:
                raise InputError(f"{target} is an input: choose another folder as --output")
            if target in targets:
                raise InputError(
                    f"{targets[target]} and {source.file} would both be written to {target}"
                )
            targets[target] = source.file


def open_window() -> None:
    """Open a window for predictions.

    Raises:
        InputError: This OpenCV or this machine cannot open windows.
    """
    if sys.platform == "linux" and not (os.getenv("DISPLAY") or os.getenv("WAYLAND_DISPLAY")):
        raise InputError("--show needs a display, and neither DISPLAY nor WAYLAND_DISPLAY is set")
    try:
        cv2.namedWindow(_TITLE, cv2.WINDOW_NORMAL)
    except cv2.error as error:
        raise InputError(
            "--show needs an OpenCV with windows: pip uninstall opencv-python-headless, "
            "pip install 'opencv-python<4.12'"
        ) from error


class Demo:
    """Draw, write and show predictions."""

    def __init__(self, args: argparse.Namespace, predictor: Predictor):
        self.args = args
        self.predictor = predictor
        self.folder = Path(args.output or "")
        self.draws = not args.no_overlay or args.show
        self.saves_pictures = args.output is not None and not args.no_overlay
        self.raw = PredictionFiles(
            args.output or "", predictor.metadata, depth_scale=args.depth_scale
        )
        self.failed: list[str] = []
        self.num_images = self.num_frames = 0

    def images(self, sources: list[Source], boxes: dict[str, Any]) -> bool:
        """Predict image files; return False if the user stops."""
        names = {source.file: source.name for source in sources}
        with tqdm(total=len(sources), unit="image", disable=None) as bar:
            predictions = self.predictor.stream(
                ((file, file, boxes.get(file)) for file in names),
                batch_size=self.args.batch_size,
                on_error=partial(self._fail, bar),
            )
            for file, pixels, output in predictions:
                save = partial(write_png, file=self.folder / f"{names[file]}.png")
                if not self._deliver(pixels, output, names[file], file, save, wait=True):
                    return False
                self.num_images += 1
                bar.update()
        return True

    def video(self, video: Video, name: str, file: str) -> bool:
        """Predict all frames of a video; return False if the user stops."""
        target = self.folder / f"{name}.mp4"
        writes = self.saves_pictures
        opened = VideoFile(target, video.frames_per_second) if writes else nullcontext()
        with opened as written, tqdm(total=video.num_frames, unit="frame", disable=None) as bar:
            save = None if written is None else written.write
            frames = self.predictor.video(video, batch_size=self.args.batch_size)
            try:
                for number, pixels, output in frames:
                    frame = f"{name}/{int(number):06d}"
                    if not self._deliver(pixels, output, frame, f"{file}#{number}", save):
                        return False
                    self.num_frames += 1
                    bar.update()
            except KeyboardInterrupt:  # stops a camera; half a video file is not kept
                if not video.is_camera:
                    raise
        if video.damage:
            self.failed.append(video.damage)
        return True

    def report(self) -> None:
        """Say what was written and where."""
        if self.args.output is not None:
            counts = f"images: {self.num_images}, video frames: {self.num_frames}"
            print(f"predictions are in {self.folder} ({counts})")

    def _fail(self, bar: tqdm, file: str, error: Exception) -> None:
        reason = str(error).split("\n")[0]
        self.failed.append(reason if file in reason else f"{file}: {reason}")
        bar.write(f"failed: {self.failed[-1]}", file=sys.stderr)
        bar.update()

    def _deliver(
        self,
        pixels: np.ndarray,
        output: dict[str, Any],
        name: str,
        file: str,
        save: Callable[[np.ndarray], None] | None,
        wait: bool = False,
    ) -> bool:
        """Write and show a prediction as asked; return False if the user stops."""
        if self.args.raw:
            self.raw.add(name, output, file_name=file, size=pixels.shape[:2])
        if not self.draws:
            return True
        picture = draw_overlay(pixels[..., ::-1], output, self.predictor.metadata)
        if self.saves_pictures:
            save(picture)
        if not self.args.show:
            return True
        cv2.imshow(_TITLE, np.ascontiguousarray(picture[..., ::-1]))
        return cv2.waitKey(0 if wait else 1) & 0xFF not in _ENDING_KEYS


def run(args: argparse.Namespace) -> tuple[list[str], int]:
    """Predict all inputs; return the failures and the number of inputs."""
    sources = find_sources(args.input)
    images = [source for source in sources if not source.is_video]
    boxes = read_box_file(args.boxes, images)
    if args.show:
        open_window()
    if args.output:
        check_output(args, sources)
        os.makedirs(args.output, exist_ok=True)
    # Errors of the input come before the model is loaded.
    camera = None if args.webcam is None else Video(args.webcam)
    demo = Demo(args, Predictor(get_config(args.config_file, args.opts)))
    try:
        if camera is not None:
            demo.video(camera, "webcam", f"camera {args.webcam}")
            return [], 1
        continues = demo.images(images, boxes) if images else True
        for source in sources:
            if source.is_video and continues:
                try:
                    continues = demo.video(Video(source.file), source.name, source.file)
                except InputError as error:
                    demo.failed.append(str(error))
    finally:
        demo.raw.close()
        demo.report()
    return demo.failed, len(sources)


@one_line_errors()
def main(argv: list[str] | None = None) -> None:
    """Run the command line."""
    args = parse_arguments(argv)
    setup_logger(name="metaprompt_d2", abbrev_name="mp")
    failed, number = run(args)
    if failed:
        raise InputError("\n".join([f"{len(failed)} of {number} inputs failed:", *failed]))


if __name__ == "__main__":
    main()
