"""Coverage-guided fuzzing of the reader of checkpoints: `make fuzz`, or

    python tests/robustness/fuzz_checkpoints.py -max_total_time=600 corpus

Options are libFuzzer's; `corpus` is a folder that keeps what was found. A crash is written to a
file `crash-*`, which reproduces it as the only argument.
"""

import contextlib
import sys
import tempfile
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "utils"))

with atheris.instrument_imports(include=["metaprompt_d2.checkpoint"]):
    from metaprompt_d2.checkpoint import TensorFileError, load_checkpoint

from checkpoint_mutations import pickle_of, seeds, with_pickle  # noqa: E402

FOLDER = tempfile.TemporaryDirectory()
FILE = Path(FOLDER.name) / "checkpoint"
FILES = dict(seeds())


def read(data: bytes) -> None:
    """Read a file; the first byte says whether the rest is the file or the pickle of a zip."""
    content = with_pickle(FILES["zip"], data[1:]) if data[:1] == b"z" else data[1:]
    FILE.write_bytes(content)
    with contextlib.suppress(TensorFileError):
        load_checkpoint(FILE)


def main() -> None:
    """Fuzz until the options say stop. A new corpus starts with one file of every format."""
    folders = [Path(argument) for argument in sys.argv[1:] if not argument.startswith("-")]
    for folder in folders[:1]:
        if folder.is_file():
            break
        folder.mkdir(exist_ok=True)
        for index, (kind, content) in enumerate(seeds()):
            (folder / f"{kind}-{index}").write_bytes(b"f" + content)
            if kind == "zip":
                (folder / f"{kind}-{index}-pickle").write_bytes(b"z" + pickle_of(content))
    atheris.Setup(sys.argv, read)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
