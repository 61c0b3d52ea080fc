"""Ways to damage a file, drawn from a seeded generator."""

import copy
import json
import math
import struct
import zlib
from pathlib import Path
from random import Random
from typing import Any

# What stands where something else was expected.
ABSURD = [
    *(None, True, -1, 0, 1, 3, 10**15, -0.5, 2.5, math.nan, math.inf, "", "x", "two words"),
    *([], [0], [-1, -1], [1, 2, 3], ["x"], [[]], {}, {"x": 1}),
]


def damage_bytes(content: bytes, random: Random) -> bytes:
    """Truncated, flipped, zeroed, shuffled, or another content altogether."""
    size = len(content)
    kind = random.randrange(8)
    if kind == 0:
        return content[: random.randrange(size)]
    if kind == 1:
        flipped = bytearray(content)
        for _ in range(random.choice((1, 8, 64))):
            flipped[random.randrange(size)] ^= 1 << random.randrange(8)
        return bytes(flipped)
    if kind == 2:
        start = random.randrange(size)
        length = random.randrange(1, size - start + 1)
        return content[:start] + bytes(length) + content[start + length :]
    if kind == 3:
        start = random.randrange(size)
        return content[:start] + random.randbytes(random.randrange(1, 100)) + content[start:]
    if kind == 4:
        return b""
    if kind == 5:
        return random.randbytes(random.randrange(1, 2000))
    if kind == 6:
        return random.choice((b"<!DOCTYPE html>", b"version https://git-lfs", b"[]", b"\x89PNG"))
    return content + random.randbytes(random.randrange(1, 100))


def damage_file(file: Path, random: Random) -> str:
    """Damage a file in place, or make it vanish; returns what was done."""
    kind = random.randrange(12)
    if kind == 0:
        file.unlink()
        return "missing"
    if kind == 1:
        file.unlink()
        file.mkdir()
        return "a folder"
    if kind == 2 and file.suffix == ".png":
        file.write_bytes(with_size_in_header(file.read_bytes(), random))
        return "other size in the header"
    file.write_bytes(damage_bytes(file.read_bytes(), random))
    return "other bytes"


def with_size_in_header(png: bytes, random: Random) -> bytes:
    """A PNG that claims another width, with the right checksum."""
    width = random.choice((0, 1, 5, 1000, 60_000, 2**31 - 1))
    header = b"IHDR" + struct.pack(">I", width) + png[20:29]
    return png[:12] + header + struct.pack(">I", zlib.crc32(header)) + png[33:]


def damage_json(content: Any, random: Random) -> Any:
    """Replace, drop or repeat one node of a tree of dicts and lists."""
    content = copy.deepcopy(content)
    node, key = random.choice(list(nodes(content)))
    kind = random.randrange(4)
    if kind == 0:
        del node[key]
    elif kind == 1 and isinstance(node, list):
        node.append(copy.deepcopy(node[key]))
    else:
        node[key] = copy.deepcopy(random.choice(ABSURD))
    return content


def damage_json_file(file: Path, random: Random) -> str:
    """As `damage_file`, mostly by its content."""
    if random.random() < 0.25:
        return damage_file(file, random)
    changed = damage_json(json.loads(file.read_text()), random)
    file.write_text(json.dumps(changed))
    return "other content"


def nodes(content: Any) -> list[tuple[Any, Any]]:
    """Every (container, key or index) of a tree."""
    if not isinstance(content, dict | list):
        return []
    keys = list(content) if isinstance(content, dict) else range(len(content))
    here = [(content, key) for key in keys]
    return here + [pair for key in keys for pair in nodes(content[key])]
