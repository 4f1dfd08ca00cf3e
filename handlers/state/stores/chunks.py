"""Content is cut where the content itself says so, so that what is inserted in the middle moves no other cut.

Candidates for a cut are found by a regular expression, since that is what Python searches bytes fastest with; of a
candidate, a checksum of the bytes before it decides.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from zlib import crc32

MIN_BYTES = 32 * 1024
MAX_BYTES = 256 * 1024

# Two bytes that follow each other in one of about 70 places, in text, in numbers and in compressed data alike.
_FIRST = bytes(range(0x07, 0x100, 0x10))
_SECOND = bytes(range(0x01, 0x100, 4))
_CANDIDATE = re.compile(b"[%s][%s]" % (re.escape(_FIRST), re.escape(_SECOND)))
_DECIDING_BYTES = 48
# One candidate in 1,000: with the least size, chunks have about 100 KiB.
_CUT_BELOW = 2**32 // 1000


def chunks_of(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes, in chunks of MIN_BYTES (but the last) to MAX_BYTES."""
    held = bytearray()
    for piece in pieces:
        rest = memoryview(piece)
        while rest:
            taken = min(len(rest), 2 * MAX_BYTES - len(held))
            held += rest[:taken]
            rest = rest[taken:]
            start = 0
            while len(held) - start >= MAX_BYTES:
                end = _cut(held, start)
                yield bytes(memoryview(held)[start:end])
                start = end
            del held[:start]
    while held:
        end = _cut(held, 0)
        yield bytes(memoryview(held)[:end])
        del held[:end]


def _cut(held: bytearray, start: int) -> int:
    """Where the chunk that begins at `start` ends: the first place that says so, else the one that comes nearest."""
    last = min(len(held), start + MAX_BYTES)
    nearest, end = 2**32, last
    view = memoryview(held)
    for candidate in _CANDIDATE.finditer(held, start + MIN_BYTES, last):
        at = candidate.end()
        value = crc32(view[at - _DECIDING_BYTES : at])
        if value < _CUT_BELOW:
            return at
        if value < nearest:
            nearest, end = value, at
    return end if last == start + MAX_BYTES else last
