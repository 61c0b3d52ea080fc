"""Image files written byte by byte, so that no library decides which values they hold."""

import struct
import zlib

import numpy as np

GRAY, RGB, PALETTE, GRAY_ALPHA, RGBA = 0, 2, 3, 4, 6  # color types of PNG
CHANNELS = {GRAY: 1, RGB: 3, PALETTE: 1, GRAY_ALPHA: 2, RGBA: 4}
DEPTHS = {
    GRAY: (1, 2, 4, 8, 16),
    RGB: (8, 16),
    PALETTE: (1, 2, 4, 8),
    GRAY_ALPHA: (8, 16),
    RGBA: (8, 16),
}


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def packed(values: np.ndarray, bits: int) -> list[bytes]:
    """The rows of (H, W) or (H, W, C) values, most significant bit first, filled up to bytes."""
    numbers = np.asarray(values, np.int64).reshape(len(values), -1)
    digits = numbers[..., None] >> np.arange(bits - 1, -1, -1) & 1
    return [np.packbits(row).tobytes() for row in digits.reshape(len(values), -1).astype(np.uint8)]


def png(values: np.ndarray, bits: int, color: int, extra: bytes = b"") -> bytes:
    """A PNG of any bit depth and color type; `extra` are chunks before the pixels."""
    height, width = values.shape[:2]
    parts = [b"\x89PNG\r\n\x1a\n"]
    parts += [chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)), extra]
    if color == PALETTE:
        parts.append(chunk(b"PLTE", bytes(7 * n % 256 for n in range(3 * 2**bits))))
    rows = b"".join(b"\0" + row for row in packed(values, bits))
    return b"".join([*parts, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")])


def tiff(values: np.ndarray, bits: int, *, white_is_zero: bool = False, kind: int = 1) -> bytes:
    """An uncompressed little-endian TIFF of one channel; kind 1 is unsigned, 3 floating-point."""
    height, width = values.shape
    if bits % 8 or bits == 8:
        rows = b"".join(packed(values, bits))
    else:
        rows = values.astype({16: "<u2", 32: "<u4"}[bits] if kind == 1 else "<f4").tobytes()
    fields = [(256, width), (257, height), (258, bits), (259, 1), (262, 0 if white_is_zero else 1)]
    fields += [(273, 8), (277, 1), (278, height), (279, len(rows)), (339, kind)]
    directory = b"".join(struct.pack("<HHIHH", tag, 3, 1, value, 0) for tag, value in fields)
    start = 8 + len(rows) + len(rows) % 2
    header = struct.pack("<2sHI", b"II", 42, start)
    body = header + rows + bytes(len(rows) % 2) + struct.pack("<H", len(fields)) + directory
    return body + struct.pack("<I", 0)


def pgm(values: np.ndarray, largest: int, *, plain: bool = False) -> bytes:
    """A PGM with its own maximum, in bytes or (plain) in decimal numbers."""
    height, width = values.shape
    head = f"P{2 if plain else 5}\n{width} {height}\n{largest}\n".encode()
    if plain:
        return head + "\n".join(" ".join(map(str, row)) for row in values.tolist()).encode() + b"\n"
    return head + values.astype(">u1" if largest < 256 else ">u2").tobytes()


def pbm(values: np.ndarray) -> bytes:
    """A PBM of bits."""
    height, width = values.shape
    return f"P4\n{width} {height}\n".encode() + b"".join(packed(values, 1))
