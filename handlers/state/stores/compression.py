"""Chunks as they are stored: compressed where that helps, and with a checksum over every stored byte.

The content has a hash of its own, but a compressed form has bits that mean nothing (a header's time, the last byte's
rest). The checksum covers those too, so no stored bit can change unnoticed. A chunk is stored in segments: a large
piece of it is one, so that it is compressed for what it is, and comes back without being copied.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator

from backports import zstd
from isal import isal_zlib
from isal.igzip_lib import IsalError

from l02.handlers.state.settings import Compression

_HEAD = struct.Struct(">II")  # checksum of what follows it, number of segments
_SEGMENT = struct.Struct(">BII")  # how it is compressed, bytes before that, bytes after it
_CHECKSUM_BYTES = 4
_OWN_SEGMENT_BYTES = 16 * 1024
_GZIP_FORMAT = 31  # what zlib calls "window bits": 15, and 16 for gzip's header and trailer
# ISA-L writes the same format as gzip at five times zlib's speed, and reads it at twice.
_GZIP_LEVEL = 2
_ZSTD_LEVEL = 1
# Less than that is not worth reading it back.
_WORTH_IT = 0.95
# What no compression makes smaller takes longest to try; so a sample is tried first.
_SAMPLE_BYTES, _SAMPLES = 16 * 1024, 8

_CODES: dict[str, int] = {"as it is": 0, "gzip": 1, "zstd": 2}


class Damaged(Exception):
    """Stored bytes are not what was stored."""


_PACK: dict[Compression, Callable[[bytes], bytes]] = {
    "gzip": lambda content: isal_zlib.compress(content, _GZIP_LEVEL, wbits=_GZIP_FORMAT),
    "zstd": lambda content: zstd.compress(content, _ZSTD_LEVEL),
}
# A byte more than there is: with just as many, ISA-L's binding doubles a full buffer before it sees the end.
_UNPACK: dict[int, Callable[[memoryview, int], bytes | memoryview]] = {
    _CODES["as it is"]: lambda packed, size: packed,
    _CODES["gzip"]: lambda packed, size: isal_zlib.decompress(packed, wbits=_GZIP_FORMAT, bufsize=size + 1),
    _CODES["zstd"]: lambda packed, size: zstd.decompress(packed),
}


def pack(pieces: Iterable[bytes], compression: Compression) -> bytes:
    """The pieces of a chunk, each compressed, or as it is where that does not help, behind their heads."""
    heads, bodies = [], []
    for segment in _segments(pieces):
        code, body = _packed(segment, compression)
        heads.append(_SEGMENT.pack(code, len(segment), len(body)))
        bodies.append(body)
    checksum = isal_zlib.crc32(_HEAD.pack(0, len(heads))[_CHECKSUM_BYTES:])
    for part in (*heads, *bodies):
        checksum = isal_zlib.crc32(part, checksum)
    return b"".join([_HEAD.pack(checksum, len(heads)), *heads, *bodies])


def unpack(stored: bytes) -> Iterator[bytes | memoryview]:
    """The content that was packed, in pieces. Raises Damaged."""
    view = memoryview(stored)
    if len(view) < _HEAD.size:
        raise Damaged("a stored chunk has lost its head")
    checksum, count = _HEAD.unpack_from(view)
    if isal_zlib.crc32(view[_CHECKSUM_BYTES:]) != checksum:
        raise Damaged("a stored chunk does not fit its checksum")
    start = _HEAD.size + count * _SEGMENT.size
    try:
        for code, size, length in _SEGMENT.iter_unpack(view[_HEAD.size : start]):
            yield _UNPACK[code](view[start : start + length], size)
            start += length
    except (KeyError, IsalError, zstd.ZstdError, struct.error) as error:  # type: ignore[misc]  # isal's stub
        raise Damaged(f"a stored chunk cannot be read: {error!r}") from error


def _segments(pieces: Iterable[bytes]) -> Iterator[bytes]:
    small: list[bytes] = []
    for piece in pieces:
        if len(piece) < _OWN_SEGMENT_BYTES:
            small.append(piece)
            continue
        if small:
            yield b"".join(small)
            small.clear()
        yield piece
    if small:
        yield b"".join(small)


def _packed(content: bytes, compression: Compression) -> tuple[int, bytes]:
    if len(content) < 2 * _SAMPLE_BYTES or _helps(_PACK[compression](sample := _sample(content)), sample):
        packed = _PACK[compression](content)
        if _helps(packed, content):
            return _CODES[compression], packed
    return _CODES["as it is"], content


def _sample(content: bytes) -> bytes:
    """Pieces from all over the content."""
    step = len(content) // _SAMPLES
    return b"".join(content[start : start + _SAMPLE_BYTES // _SAMPLES] for start in range(0, len(content), step))


def _helps(packed: bytes, content: bytes) -> bool:
    return len(packed) <= len(content) * _WORTH_IT
