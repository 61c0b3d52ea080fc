"""Prose and names follow the writing rules of CONTRIBUTING.md: standard terms, plain English."""

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# What isn't written (a regular expression; a space stands for any white space), and what is.
WORDS = {
    # terms
    r"figures|(?-i:figure)(?! of)": "metrics, numbers, pictures",  # but "Figure 3"
    r"joints?": "keypoints",
    r"data(?: |-)sets?": "dataset",
    r"methods? sections?": "docs/method.md, or the paper's section",
    # phrases
    r"beside": "besides, next to, in addition to",
    r"anew": "again",
    r"as ever": "as before",
    r"go(es)? on": "continues",
    r"lets? go of": "frees",
    r"of the name of": "named",
    r"(?<!there\s)is no (?!longer|more|less)\w+": "isn't a",
    # American spelling
    r"colour\w*": "color",
    r"(milli|centi|kilo)?metres?": "meter",
    r"centres?|centred": "center",
    r"grey\w*": "gray",
    r"(un)?labelled": "labeled",
    r"licences?": "license",
    r"behaviours?": "behavior",
    r"neighbour\w*": "neighbor",
    r"\w*(normal|initial|optim|visual|recogn|general|regular|quant|memor|real|summar|synchron)"
    r"is(e|es|ed|ing)": "-ize",
    r"\w*(normal|initial|optim|visual|general|regular|quant|synchron|util)isation\w*": "-ization",
    r"re-arrang\w+": "rearrange",
}  # fmt: skip
BANNED = {
    re.compile(rf"\b(?:{pattern})\b".replace(" ", r"\s+"), re.IGNORECASE): instead
    for pattern, instead in WORDS.items()
}
NAMES = re.compile(r"(?<![a-z])(?:joints?|colours?)(?![a-z])")

FOLDERS = (".github", "metaprompt_d2", "tools", "tests", "configs", "docs", "datasets/mini_world")
FILES = [*ROOT.glob("*.*"), *(ROOT / "datasets").glob("*.*")]
FILES += [file for folder in FOLDERS for file in (ROOT / folder).rglob("*.*")]

CODE = "|"  # stands for each character that isn't prose


def blank(text: str, pattern: str, flags: int = 0) -> str:
    """Replace what a pattern finds by `CODE`, line breaks apart: positions stay."""
    return re.sub(pattern, lambda found: re.sub(r"[^\n]", CODE, found[0]), text, flags=flags)


def prose_of_markdown(text: str) -> str:
    text = blank(text, r"^```.*?^```$", re.DOTALL | re.MULTILINE)
    return blank(text, r"`[^`]*`|\]\([^)]*\)|https?://\S+")


def prose_of_yaml(text: str) -> str:
    """The comments."""
    return re.sub(r"^([^#\n]*)(#?)", lambda found: CODE * len(found[1]) + " " * len(found[2]),
                  text, flags=re.MULTILINE)  # fmt: skip


def prose_of_python(text: str) -> str:
    """Comments, docstrings and every other string that holds a space."""
    lines = [re.sub(r"\S", CODE, line) for line in text.splitlines(keepends=True)]
    strings = {tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
    # From Python 3.12 on, an f-string's quotes are tokens of their own.
    quotes = {getattr(tokenize, f"FSTRING_{end}", tokenize.COMMENT) for end in ("START", "END")}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        is_prose = token.type == tokenize.COMMENT or token.type in quotes
        is_prose |= token.type in strings and " " in token.string
        if not is_prose:
            continue
        words = re.sub(
            r"^#:?|^\w{,2}[\"']+|[\"']+$", lambda found: " " * len(found[0]), token.string
        )
        words = blank(words, r"`[^`\n]*`|\{[^{}\n]*\}|https?://\S+")
        first, column = token.start
        for number, part in enumerate(words.splitlines(), first - 1):
            start = column if number == first - 1 else 0
            lines[number] = lines[number][:start] + part + lines[number][start + len(part) :]
    return "".join(lines)


PROSE_OF = {
    ".md": prose_of_markdown,
    ".py": prose_of_python,
    ".yaml": prose_of_yaml,
    ".yml": prose_of_yaml,
}
FILES = sorted(file for file in FILES if file.suffix in PROSE_OF and file.name != "test_words.py")


def findings(prose: str) -> Iterator[str]:
    """One line for each banned word: its line, itself, and what stands in its place."""
    for pattern, instead in BANNED.items():
        for found in pattern.finditer(prose):
            line = prose.count("\n", 0, found.start()) + 1
            yield f"line {line}: {' '.join(found[0].split())!r} (write: {instead})"


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_prose_has_no_banned_word(file: Path) -> None:
    assert not list(findings(PROSE_OF[file.suffix](file.read_text())))


@pytest.mark.parametrize(
    "file",
    [file for file in FILES if file.suffix == ".py"],
    ids=lambda file: str(file.relative_to(ROOT)),
)
def test_names_use_standard_terms(file: Path) -> None:
    """Config keys such as `TEST.POSE.JOINT_SCORE_THRESH` are older than the rule and stay."""
    tokens = tokenize.generate_tokens(io.StringIO(file.read_text()).readline)
    names = {token.string for token in tokens if token.type == tokenize.NAME}
    assert not {name for name in names if NAMES.search(name)}


@pytest.mark.parametrize(
    ("suffix", "text", "found"),
    [
        (".md", "All figures\nof it", 1),
        (".md", "a data\nset; `joints = 1`; [x](joints.md)\n```\njoints\n```\n", 1),
        (".md", "It holds besides; Figure 3; there is no file; is no longer; jointly", 0),
        (".yaml", "joints: 1  # every joint\n# 9 a\n# joint\n", 2),
        (".py", '"""Two joints."""\njoints = "joints"  # of a data\n# set\n', 2),
        (".py", 'raise ValueError(f"{joints} of the "\n    "name of")\n', 1),
    ],
)
def test_prose_is_told_from_code(suffix: str, text: str, found: int) -> None:
    assert len(list(findings(PROSE_OF[suffix](text)))) == found
