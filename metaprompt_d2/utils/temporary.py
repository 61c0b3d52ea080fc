"""Temporary folders; those of killed processes are removed by the next one."""

import fcntl
import os
import shutil
import tempfile
import time
import weakref
from contextlib import suppress
from pathlib import Path

_YOUNG = 60.0  # seconds; a folder this young may belong to a process that hasn't locked it yet


class TemporaryFolder(tempfile.TemporaryDirectory):
    """A temporary folder that is locked by its process, so that others see whether it is in use."""

    def __init__(self, prefix: str):
        """
        Args:
            prefix: Start of the folder's name. Folders of this user with the same start that no
                process holds any more are removed.
        """
        _remove_abandoned(prefix)
        super().__init__(prefix=prefix)
        lock = os.open(self.name, os.O_RDONLY)
        weakref.finalize(self, os.close, lock)
        fcntl.flock(lock, fcntl.LOCK_EX)


def _remove_abandoned(prefix: str) -> None:
    for folder in Path(tempfile.gettempdir()).glob(f"{prefix}*"):
        with suppress(OSError):  # in use, not a folder, or removed by another process
            about = folder.lstat()
            if about.st_uid != os.getuid() or time.time() - about.st_mtime < _YOUNG:
                continue
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
            finally:
                os.close(lock)
