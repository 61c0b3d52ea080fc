"""`LoadReport`: which tensors of a file were used, which not and why, and which were missing."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

__all__ = ["LoadReport"]


@dataclass
class LoadReport:
    """Printed with `str`."""

    source: str
    used: int = 0
    ignored: Counter[str] = field(default_factory=Counter)  # reason -> tensors
    missing: list[str] = field(default_factory=list)  # names under this package

    def ignore(self, names: Iterable[str], reasons: Iterable[tuple[str, str]]) -> None:
        """Count tensors without a use.

        Args:
            names: of the tensors.
            reasons: (beginning of a name, reason), the first that fits holds; "" fits all.
        """
        reasons = list(reasons)
        for name in names:
            self.ignored[next(why for start, why in reasons if name.startswith(start))] += 1

    def __str__(self) -> str:
        lines = [f"{self.source}: {self.used} tensors used"]
        lines += [f"  {count} ignored: {why}" for why, count in self.ignored.most_common()]
        lines += [f"  {len(self.missing)} missing" + (":" if self.missing else "")]
        lines += [f"    {name}" for name in self.missing]
        return "\n".join(lines)
