"""Messages for visitors of the page."""

import os
import re
from collections.abc import Sequence

__all__ = ["without_folders"]

# The folders of an absolute path, or of one that starts with ~, . or .., up to its last part.
_FOLDERS = re.compile(r"(?<![\w.])(?:~|\.{1,2}|[A-Za-z]:)?[/\\](?:[^\s:'\"/\\]+[/\\])*")


def without_folders(text: str, files: Sequence[str]) -> str:
    """Shorten paths to their last part, because the server's folders concern nobody else.

    Args:
        text: Message of an error.
        files: Files that it may name; their folders may have spaces in their names.
    """
    for file in files:
        text = text.replace(file, os.path.basename(file))
    return _FOLDERS.sub("", text)
