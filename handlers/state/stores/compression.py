"""Chunks as they are stored: compressed where that helps, and with a checksum over every stored byte.

The content has a hash of its own, but a compressed form has bits that mean nothing (a header's time, the last byte's
rest). The checksum covers those too, so no stored bit can change unnoticed.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from backports import zstd
from isal import isal_zlib
from isal.igzip_lib import IsalError

from handlers.state.settings import Compression

__all__ = ["Damaged", "pack", "unpack"]

_HEAD = struct.Struct(">IBI")  # checksum of what follows it, how it is compressed, bytes before that
_CHECKSUM_BYTES = 4
_GZIP_FORMAT = 31  # what zlib calls "window bits": 15, and 16 for gzip's header and trailer
# ISA-L writes the same format as gzip at five times zlib's speed, and reads it at twice.
_GZIP_LEVEL = 2
_ZSTD_LEVEL = 1
# Less than that is not worth reading it back.
_WORTH_IT = 0.95

_CODES: dict[str, int] = {"as it is": 0, "gzip": 1, "zstd": 2}


class Damaged(Exception):
    """Stored bytes are not what was stored."""


_PACK: dict[Compression, Callable[[bytes], bytes]] = {
    "gzip": lambda content: isal_zlib.compress(content, _GZIP_LEVEL, wbits=_GZIP_FORMAT),
    "zstd": lambda content: zstd.compress(content, _ZSTD_LEVEL),
}
_UNPACK: dict[int, Callable[[memoryview, int], bytes | memoryview]] = {
    _CODES["as it is"]: lambda packed, size: packed,
    _CODES["gzip"]: lambda packed, size: isal_zlib.decompress(packed, wbits=_GZIP_FORMAT, bufsize=size),
    _CODES["zstd"]: lambda packed, size: zstd.decompress(packed),
}


def pack(content: bytes, compression: Compression) -> bytes:
    """The content compressed, or as it is where that does not help, behind its head."""
    code, packed = _CODES[compression], _PACK[compression](content)
    if len(packed) > len(content) * _WORTH_IT:
        code, packed = _CODES["as it is"], content
    checksum = isal_zlib.crc32(packed, isal_zlib.crc32(_HEAD.pack(0, code, len(content))[_CHECKSUM_BYTES:]))
    return _HEAD.pack(checksum, code, len(content)) + packed


def unpack(stored: bytes) -> bytes | memoryview:
    """The content that was packed. Raises Damaged."""
    view = memoryview(stored)
    if len(view) < _HEAD.size:
        raise Damaged("a stored chunk has lost its head")
    checksum, code, size = _HEAD.unpack_from(view)
    if isal_zlib.crc32(view[_CHECKSUM_BYTES:]) != checksum:
        raise Damaged("a stored chunk does not fit its checksum")
    try:
        return _UNPACK[code](view[_HEAD.size :], max(size, 1))
    except (KeyError, IsalError, zstd.ZstdError) as error:  # type: ignore[misc]  # isal's stub: an instance
        raise Damaged(f"a stored chunk cannot be read: {error!r}") from error
