"""Reader of what an exported program says about itself."""

import json
from pathlib import Path
from zipfile import ZipFile

from metaprompt_d2.export import METADATA_NAME


def read_metadata(file: Path) -> dict:
    """Read the metadata of a .pt2 file; `torch.export.load` would take seconds for its program."""
    with ZipFile(file) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(METADATA_NAME))
        return json.loads(archive.read(name))
