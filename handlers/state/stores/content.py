"""The one form in which every store keeps a checkpoint's parts, so that its hash is the same wherever it lies.

Sorted by name, each part is the length of its name (4 bytes), its own length (8 bytes), its name, and itself. It is
written and read a piece at a time: a large state is in memory once, as its parts.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from io import BytesIO

from domain.errors import ErrorCode, Failure

__all__ = ["PartsReader", "pieces_of", "size_of"]

_LENGTHS = struct.Struct(">IQ")


def size_of(parts: Mapping[str, bytes], limit: int) -> int:
    """How many bytes the parts have in this form. Raises Failure (E2031) above `limit`."""
    size = sum(_LENGTHS.size + len(name.encode()) + len(part) for name, part in parts.items())
    if size > limit:
        raise Failure(
            ErrorCode.CHECKPOINT_TOO_LARGE, f"the state has {size:,} bytes, and a checkpoint at most {limit:,}"
        )
    return size


def pieces_of(parts: Mapping[str, bytes]) -> Iterator[bytes]:
    """The content, piece by piece; the parts themselves are not copied."""
    for name in sorted(parts):
        raw = name.encode()
        yield _LENGTHS.pack(len(raw), len(parts[name])) + raw
        yield parts[name]


class PartsReader:
    """Takes the content in pieces of any size, and gives its parts."""

    def __init__(self) -> None:
        self._parts: dict[str, bytes] = {}
        self._name, self._part_length = "", 0
        self._expect(_LENGTHS.size, self._take_lengths)

    def feed(self, piece: bytes | memoryview) -> None:
        """The next piece. Raises ValueError if it cannot belong to a content."""
        rest = memoryview(piece)
        while rest:
            taken, rest = rest[: self._missing], rest[self._missing :]
            self._missing -= len(taken)
            if self._missing:
                self._taken.write(taken)
            elif self._taken.tell():
                self._taken.write(taken)
                self._then(self._taken.getvalue())
            else:
                self._then(bytes(taken))

    def parts(self) -> dict[str, bytes]:
        """All parts. Raises ValueError if the content is not at its end."""
        if self._missing != _LENGTHS.size or self._then != self._take_lengths:
            raise ValueError("the content ends in the middle of a part")
        return self._parts

    def _expect(self, count: int, then: Callable[[bytes], None]) -> None:
        # Unlike joining or slicing, this gives its bytes away without a copy of them.
        self._taken = BytesIO()
        self._missing, self._then = count, then
        if not count:
            then(b"")

    def _take_lengths(self, raw: bytes) -> None:
        name_length, self._part_length = _LENGTHS.unpack(raw)
        self._expect(name_length, self._take_name)

    def _take_name(self, raw: bytes) -> None:
        self._name = raw.decode()
        self._expect(self._part_length, self._take_part)

    def _take_part(self, raw: bytes) -> None:
        self._parts[self._name] = raw
        self._expect(_LENGTHS.size, self._take_lengths)
