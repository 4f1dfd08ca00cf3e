"""Chunks as they are stored: compressed where that helps, and with a checksum over every stored byte.

The content has a hash of its own, but a compressed form has bits that mean nothing (a header's time, the last byte's
rest). The checksum covers those too, so no stored bit can change unnoticed.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from typing import Literal

from backports import zstd
from isal import isal_zlib

__all__ = ["Compression", "Damaged", "pack", "unpack"]

Compression = Literal["gzip", "zstd"]

_CHECKSUM = struct.Struct(">I")
_GZIP_FORMAT = 31  # what zlib calls "window bits": 15, and 16 for gzip's header and trailer
# ISA-L writes the same format as gzip at five times zlib's speed, and reads it at twice.
_GZIP_LEVEL = 2
_ZSTD_LEVEL = 1
# Below that much less than before, reading it back is not worth it.
_WORTH_IT = 0.95

_CODES: dict[str, bytes] = {"as it is": b"\0", "gzip": b"\1", "zstd": b"\2"}


class Damaged(Exception):
    """Stored bytes are not what was stored."""


def _gzip(content: bytes) -> bytes:
    return isal_zlib.compress(content, _GZIP_LEVEL, wbits=_GZIP_FORMAT)


def _gunzip(packed: memoryview) -> bytes:
    return isal_zlib.decompress(packed, wbits=_GZIP_FORMAT)


_PACK: dict[Compression, Callable[[bytes], bytes]] = {
    "gzip": _gzip,
    "zstd": lambda content: zstd.compress(content, _ZSTD_LEVEL),
}
_UNPACK: dict[bytes, Callable[[memoryview], bytes]] = {
    _CODES["as it is"]: bytes,
    _CODES["gzip"]: _gunzip,
    _CODES["zstd"]: zstd.decompress,
}


def pack(content: bytes, compression: Compression) -> bytes:
    """A checksum of what follows, how it is compressed, and the content so compressed."""
    code, packed = _CODES[compression], _PACK[compression](content)
    if len(packed) > len(content) * _WORTH_IT:
        code, packed = _CODES["as it is"], content
    return b"".join([_CHECKSUM.pack(zlib.crc32(packed, zlib.crc32(code))), code, packed])


def unpack(stored: bytes) -> bytes:
    """The content that was packed. Raises Damaged."""
    body = memoryview(stored)[_CHECKSUM.size :]
    if not body or zlib.crc32(body) != _CHECKSUM.unpack_from(stored)[0]:
        raise Damaged("the checksum of a stored chunk does not fit")
    try:
        return _UNPACK[bytes(body[:1])](body[1:])
    except (KeyError, isal_zlib.error, zstd.ZstdError) as error:
        raise Damaged(f"a stored chunk cannot be read: {error!r}") from error
