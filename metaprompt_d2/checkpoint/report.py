"""`LoadReport`: the tensors of a file that were used, ignored or missing."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass
class LoadReport:
    """What became of a file's tensors. `str` formats it for people."""

    source: str
    used: int = 0
    ignored: Counter[str] = field(default_factory=Counter)  # reason -> number of tensors
    missing: list[str] = field(default_factory=list)  # our names

    def ignore(self, names: Iterable[str], reasons: Mapping[str, str]) -> None:
        """Count tensors that aren't used.

        Args:
            names: Names of the tensors.
            reasons: Maps prefixes of names to reasons. The first prefix that fits counts.
        """
        for name in names:
            self.ignored[next(why for start, why in reasons.items() if name.startswith(start))] += 1

    def __str__(self) -> str:
        lines = [f"{self.source}: {self.used} tensors used"]
        lines += [f"  {count} ignored: {why}" for why, count in self.ignored.most_common()]
        lines += [f"  {len(self.missing)} missing" + (":" if self.missing else "")]
        return "\n".join(lines + [f"    {name}" for name in self.missing])
