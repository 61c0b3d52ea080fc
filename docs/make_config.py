"""Make docs/config.md from the comments of metaprompt_d2/config/defaults.py.

python docs/make_config.py
"""

import inspect
import re
from pathlib import Path

from detectron2.config import CfgNode, get_cfg

from metaprompt_d2.config import add_metaprompt_config, defaults

PAGE = Path(__file__).resolve().parent / "config.md"
HEAD = """# Config keys

Keys that this package adds to
[Detectron2's](https://detectron2.readthedocs.io/en/latest/modules/config.html#yaml-config-references).
`python docs/make_config.py` makes this page from the comments of
`metaprompt_d2/config/defaults.py`; don't edit it.

Set keys in a YAML file, or in pairs at the end of a command line:
`python tools/train_net.py --config-file configs/cityscapes_seg.yaml SOLVER.MAX_ITER 40000`.
"""
_KEY = re.compile(r"    cfg\.([A-Z][A-Z0-9_.]*) = (?!CfgNode\(\))")
_SECTION = "    # ## "


def read_comments(source: str) -> dict[str, str]:
    """Read the comment above every key that is set; "" for a key without a comment."""
    comments, lines = {}, []
    for line in source.splitlines():
        if line.startswith("    # ") and not line.startswith(_SECTION):
            lines.append(line.removeprefix("    # "))
            continue
        if key := _KEY.match(line):
            comments[key[1]] = " ".join(lines)
        lines = []
    return comments


def render_page() -> str:
    """Return the content of docs/config.md."""
    cfg = get_cfg()
    add_metaprompt_config(cfg)
    _, *sections = inspect.getsource(defaults).split(_SECTION)
    return "\n".join([HEAD, *(render_section(section, cfg) for section in sections)])


def render_section(source: str, cfg: CfgNode) -> str:
    """Return a heading, the text below the heading, and a table of the keys that are set."""
    title, _, body = source.partition("\n")
    text = re.match(r"    #\n((?:    # .*\n)+)\n", body)
    lines = [f"## {title}", "", *([text[1].replace("    # ", "")] if text else [])]
    lines += ["| key | default | meaning |", "|---|---|---|"]
    for key, comment in read_comments(source).items():
        value = cfg
        for name in key.split("."):
            value = value[name]
        lines.append(f"| `{key}` | `{value!r}` | {escape(comment)} |")
    return "\n".join(lines) + "\n"


def escape(comment: str) -> str:
    """Keep Markdown from reading stars and angle brackets outside of code."""
    parts = comment.split("`")
    parts[::2] = [re.sub(r"([*<>|])", r"\\\1", part) for part in parts[::2]]
    return "`".join(parts)


if __name__ == "__main__":
    PAGE.write_text(render_page())
