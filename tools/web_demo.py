r"""Serve a web page that shows predictions, prompts and refinement steps of trained models.

    python tools/web_demo.py --runs output
    python tools/web_demo.py --config-file configs/kitti_depth.yaml --weights model_best.pth
    python tools/web_demo.py --runs output/coco_pose --opts MODEL.PERSON_DETECTOR.CONFIG_FILE \
        COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml

This needs Gradio: pip install -e '.[web]'. Only this machine can open the page, unless
`--server-name 0.0.0.0` is given. Neither the page nor the server connects to any other host, unless
a detector's weights are to be downloaded.
"""

import argparse
import os
import sys
import tempfile
from contextlib import suppress
from typing import Any

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when Gradio is imported

try:
    import gradio as gr
except ModuleNotFoundError:
    sys.exit("error: tools/web_demo.py needs Gradio: pip install -e '.[web]'")

import numpy as np
from detectron2.utils.logger import setup_logger
from web_page.checkpoints import Checkpoint, find_checkpoints, load_predictor
from web_page.drawn_boxes import DrawnBoxes
from web_page.kept import KeptLooks
from web_page.look import VIEWS, Look
from web_page.messages import without_folders

from metaprompt_d2.utils.errors import InputError, error_message, one_line_errors

_CSS = """
.class { border-left: 0.9em solid; padding-left: 0.3em; margin-right: 0.7em; white-space: nowrap }
[id$=-caption] { min-height: 4.5em }
#prompts .thumbnail-lg { aspect-ratio: auto; flex-direction: column; height: auto }
#prompts .caption-label {
    position: static; max-width: 100%; white-space: normal; overflow: visible; opacity: 1;
    border: none; background: none
}
footer { display: none !important }
"""
_INTRODUCTION = """
# What do the prompts look for?
The UNet of Stable Diffusion reads an image in several refinement steps, steered by learned prompts.
Drop an image, then compare any two views of the model: slide through the **steps**, and choose a
**prompt** by its number or by clicking its map below.
"""
_DRAWING = """
**To choose what is posed**, click two opposite corners of a box around it. Then press Look inside.
"""
_UPLOAD_LIMIT = "32mb"
_KEPT_GIB = 1.0  # of all sessions' responses and pictures
_CLEANING_PERIOD, _FILE_AGE = 600, 3600  # seconds; uploads and pictures are deleted after that
_DROPPED = "This image was dropped to save memory: press Look inside again."
_SYSTEM_FONTS = ["ui-sans-serif", "system-ui", "sans-serif"]  # Gradio's own are downloaded


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--runs", nargs="*", default=["output"], help="folders of training runs (default: output)")
    add("--config-file", default="", help="config of an additional model")
    add("--weights", default="", help="checkpoint of that model")
    add("--server-name", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    add("--server-port", type=int, default=7860, help="port (default: %(default)s)")
    add("--opts", nargs=argparse.REMAINDER, default=[], help="config keys and values of all models")
    args = parser.parse_args(argv)
    if args.weights and not args.config_file:
        parser.error("--weights needs the --config-file of its model")
    return args


class _Panel:
    """One of the two views to compare."""

    def __init__(self, name: str, view: str):
        self.picture = gr.Image(
            show_label=False, interactive=False, buttons=["fullscreen", "download"], elem_id=name
        )
        self.caption = gr.HTML(elem_id=f"{name}-caption")
        self.view = gr.Radio(VIEWS, value=view, show_label=False, elem_id=f"{name}-view")
        self.step = gr.Slider(1, 2, value=1, step=1, label="Step", elem_id=f"{name}-step")
        self.prompt = gr.Slider(0, 1, value=0, step=1, label="Prompt", elem_id=f"{name}-prompt")

    @property
    def controls(self) -> list[Any]:
        return [self.view, self.step, self.prompt]

    @property
    def outputs(self) -> list[Any]:
        return [self.picture, self.caption]


class _BoxEditor:
    """The image on which boxes are drawn, for models that pose what is in them."""

    def __init__(self) -> None:
        self.drawn = gr.State(DrawnBoxes())
        with gr.Column(visible=False) as self.column:
            gr.Markdown(_DRAWING)
            self.picture = gr.Image(
                show_label=False, interactive=False, buttons=[], elem_id="boxes"
            )
            self.category = gr.Dropdown(
                [], label="Category of the next box", type="index", elem_id="category"
            )
            self.clear = gr.Button("Clear boxes", elem_id="clear-boxes")

    @property
    def outputs(self) -> list[Any]:
        return [self.drawn, self.picture, self.column, self.category]


class _Page:
    """The components of the page and their events."""

    def __init__(self, checkpoints: list[Checkpoint]):
        self.checkpoints = {checkpoint.label: checkpoint for checkpoint in checkpoints}
        self.kept = KeptLooks(int(_KEPT_GIB * 2**30))
        tasks = list(dict.fromkeys(checkpoint.task for checkpoint in checkpoints))
        gr.Markdown(_INTRODUCTION)
        self.key = gr.State("", delete_callback=self.kept.remove)
        with gr.Row():  # the whole width, because names of checkpoints are long
            self.task = gr.Radio(tasks, value=tasks[0], label="Task", elem_id="task", scale=1)
            labels = self._labels(tasks[0])
            self.checkpoint = gr.Dropdown(
                labels, value=labels[0], label="Checkpoint", elem_id="checkpoint", scale=3
            )
        with gr.Row():
            with gr.Column(scale=1, min_width=240):
                self.image = gr.Image(
                    label="Your image", type="filepath", image_mode=None, sources=["upload"]
                )
                self.editor = _BoxEditor()
                self.button = gr.Button("Look inside", variant="primary", elem_id="go")
                self.feature = gr.Dropdown(["p2"], value="p2", label="Map of the responses")
            with gr.Column(scale=2, min_width=320):
                self.left = _Panel("left", "Prediction")
            with gr.Column(scale=2, min_width=320):
                self.right = _Panel("right", "Prompt")
        gr.Markdown("### All prompts, at the step on the right")
        self.gallery = gr.Gallery(
            show_label=False,
            columns=8,
            height="auto",
            allow_preview=False,
            buttons=[],
            elem_id="prompts",
        )
        self._connect()

    def _labels(self, task: str) -> list[str]:
        return [label for label, item in self.checkpoints.items() if item.task == task]

    def _connect(self) -> None:
        shown = [self.key, *self.left.outputs, *self.right.outputs, self.gallery]
        self.task.input(self._offer, self.task, self.checkpoint)
        gr.on(
            [self.task.input, self.checkpoint.input, self.image.clear],
            self._clear,
            self.key,
            shown,
            show_progress="hidden",
        )
        sliders = [panel.step for panel in self._panels] + [panel.prompt for panel in self._panels]
        # Whatever goes wrong now, no map of the image before stays.
        cleared = gr.on(
            [self.image.upload, self.button.click],
            self._clear,
            self.key,
            shown,
            show_progress="hidden",
        )
        looked = cleared.success(
            self._look,
            [self.checkpoint, self.image, self.editor.drawn],
            [self.key, self.feature, *sliders],
        )
        gallery = {"inputs": [self.key, self.right.step, self.feature], "outputs": self.gallery}
        quiet = {"show_progress": "hidden", "trigger_mode": "always_last"}
        for panel in self._panels:
            inputs = [self.key, *panel.controls, self.feature]
            looked.success(self._draw, inputs, panel.outputs, show_progress="hidden")
            changes = [part.input for part in panel.controls] + [self.feature.input]
            gr.on(changes, self._draw, inputs, panel.outputs, **quiet)
        looked.success(self._thumbnails, **gallery)
        gr.on([self.right.step.release, self.feature.input], self._thumbnails, **gallery, **quiet)
        self.gallery.select(self._choose, None, [self.right.view, self.right.prompt]).then(
            self._draw, [self.key, *self.right.controls, self.feature], self.right.outputs, **quiet
        )

        self._connect_editor(quiet)

    def _connect_editor(self, quiet: dict[str, Any]) -> None:
        editor = self.editor
        shown = [self.checkpoint, self.image, editor.drawn]
        changes = [self.checkpoint.change, self.image.upload, self.image.clear]
        gr.on(changes, self._show_boxes, shown, editor.outputs, **quiet)
        drawn = [editor.drawn, editor.picture]
        clicks = quiet | {"trigger_mode": "multiple"}  # every click counts
        editor.picture.select(self._click, [*shown, editor.category], drawn, **clicks)
        editor.clear.click(self._clear_boxes, editor.drawn, drawn, **clicks)

    @property
    def _panels(self) -> tuple[_Panel, _Panel]:
        return self.left, self.right

    def _offer(self, task: str) -> gr.Dropdown:
        labels = self._labels(task)
        return gr.Dropdown(labels, value=labels[0])

    def _clear(self, key: str) -> list[Any]:
        """Forget the image before; return nothing for all that shows it."""
        self.kept.remove(key)
        return ["", None, "", None, "", None]

    def _kept(self, key: str) -> Look | None:
        look = self.kept.get(key)
        if key and look is None:
            raise gr.Error(_DROPPED)
        return look

    def _draw(
        self, key: str, view: str, step: int, prompt: int, feature: str
    ) -> tuple[np.ndarray | None, str]:
        """Return the picture and caption of a panel."""
        look = self._kept(key)
        if look is None:
            return None, ""
        arguments = view, min(step, look.num_steps), min(prompt, look.num_prompts - 1), feature
        return look.picture(*arguments), look.caption(*arguments)

    def _fitting(self, label: str, file: str | None, drawn: DrawnBoxes) -> DrawnBoxes:
        """Return the boxes, or none if they are on another image or of other categories."""
        categories = self.checkpoints[label].categories
        fits = (drawn.file, drawn.categories) == (file, categories)
        return drawn if fits else DrawnBoxes(file, categories)

    def _show_boxes(self, label: str, file: str | None, drawn: DrawnBoxes) -> list[Any]:
        """Show the editor if the model poses what is in boxes; return its outputs."""
        drawn, picture = self._fitting(label, file, drawn), None
        if file is not None and drawn.categories:
            with suppress(InputError):  # looking at the image says why it cannot be read
                picture = drawn.picture()
        names = list(drawn.categories)
        category = gr.Dropdown(names, value=(names or [None])[0], visible=len(names) > 1)
        return [drawn, picture, gr.Column(visible=picture is not None), category]

    def _click(
        self,
        label: str,
        file: str | None,
        drawn: DrawnBoxes,
        category: int | None,
        click: gr.SelectData,
    ) -> tuple[DrawnBoxes, np.ndarray]:
        """Add a corner where the editor's picture was clicked."""
        if self._fitting(label, file, drawn) is not drawn:
            return gr.skip()  # the picture of another image is about to be replaced
        try:
            drawn = drawn.clicked(*click.index, category or 0)
        except InputError as error:
            raise gr.Error(str(error)) from error
        return drawn, drawn.picture()

    def _clear_boxes(self, drawn: DrawnBoxes) -> tuple[DrawnBoxes, np.ndarray]:
        empty = DrawnBoxes(drawn.file, drawn.categories)
        return empty, empty.picture()

    def _look(self, label: str, file: str | None, drawn: DrawnBoxes) -> list[Any]:
        """Look inside a model; return the result and the updated controls."""
        if file is None:
            raise gr.Error("Drop an image first.")
        checkpoint = self.checkpoints[label]
        try:
            boxes = self._fitting(label, file, drawn).boxes
            look = Look(load_predictor(checkpoint), file, boxes)
        except InputError as error:
            files = file, checkpoint.weights, checkpoint.config_file
            raise gr.Error(without_folders(error_message(error), files)) from error
        count = look.num_steps
        step = gr.Slider(maximum=max(count, 2), value=count, visible=count > 1)
        prompt = gr.Slider(maximum=look.num_prompts - 1, value=look.best_prompt())
        feature = gr.Dropdown(look.features, value=look.features[0])
        return [self.kept.add(look), feature, step, step, prompt, prompt]

    def _thumbnails(self, key: str, step: int, feature: str) -> list | None:
        look = self._kept(key)
        return None if look is None else look.thumbnails(min(step, look.num_steps), feature)

    def _choose(self, chosen: gr.SelectData) -> tuple[str, int]:
        return "Prompt", chosen.index


def build_page(checkpoints: list[Checkpoint]) -> gr.Blocks:
    """Build the page, ready to be launched."""
    cleaning = (_CLEANING_PERIOD, _FILE_AGE)
    with gr.Blocks(
        title="metaprompt_d2", analytics_enabled=False, fill_width=True, delete_cache=cleaning
    ) as page:
        _Page(checkpoints)
    return page


@one_line_errors()
def main(argv: list[str] | None = None) -> None:
    """Serve the page until Ctrl-C."""
    args = parse_arguments(argv)
    setup_logger(name="metaprompt_d2", abbrev_name="mp")
    checkpoints = find_checkpoints(args.runs, args.config_file, args.weights, args.opts)
    with tempfile.TemporaryDirectory(prefix="metaprompt_d2_web_") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder  # of uploads and pictures; goes with the server
        build_page(checkpoints).queue(default_concurrency_limit=1).launch(
            server_name=args.server_name,
            server_port=args.server_port,
            share=False,
            ssr_mode=False,
            show_error=False,
            max_file_size=_UPLOAD_LIMIT,
            footer_links=[],
            theme=gr.themes.Soft(font=_SYSTEM_FONTS, font_mono=["ui-monospace", "monospace"]),
            css=_CSS,
        )


if __name__ == "__main__":
    main()
