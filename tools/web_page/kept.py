"""What the server keeps of the images that were looked at."""

from collections import OrderedDict
from threading import Lock
from uuid import uuid4

from .look import Look

__all__ = ["KeptLooks"]


class KeptLooks:
    """Keeps looks up to a number of bytes; the longest unused ones are dropped first.

    A session holds the key of its look, so that many sessions take no more memory than this.
    """

    def __init__(self, max_bytes: int):
        self.max_bytes = max_bytes
        self._looks: OrderedDict[str, Look] = OrderedDict()
        self._lock = Lock()

    def add(self, look: Look) -> str:
        """Keep a look, even one larger than the limit, and return its key."""
        key = uuid4().hex
        with self._lock:
            self._looks[key] = look
            while len(self._looks) > 1 and self.num_bytes > self.max_bytes:
                self._looks.popitem(last=False)
        return key

    def get(self, key: str) -> Look | None:
        """Return the look of a key, or None if it was dropped."""
        with self._lock:
            if key in self._looks:
                self._looks.move_to_end(key)
            return self._looks.get(key)

    def remove(self, key: str) -> None:
        """Forget a look, for instance because its session has ended."""
        with self._lock:
            self._looks.pop(key, None)

    @property
    def num_bytes(self) -> int:
        return sum(look.num_bytes for look in self._looks.values())
