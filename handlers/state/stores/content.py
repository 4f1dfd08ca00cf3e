"""The one form in which every store keeps a checkpoint's parts, so that its hash is the same wherever it lies.

Sorted by name, each part is the length of its name (4 bytes), its own length (8 bytes), its name, and itself. It is
written and read a piece at a time: a large state is in memory once, as its parts.
"""

from __future__ import annotations

import struct
from collections.abc import Generator, Iterator, Mapping
from io import BytesIO

from l02.domain.errors import ErrorCode, Failure

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
        # Not methods that call each other: an object that holds its own method would keep the parts until Python's
        # garbage collector comes by, and every load would find memory that the processor has not in its caches.
        self._reading = _reading(self._parts)
        self._taken = BytesIO()
        self._missing, self._between = next(self._reading)

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
                # Unlike joining or slicing, this gives its bytes away without a copy of them.
                whole, self._taken = self._taken.getvalue(), BytesIO()
                self._go_on(whole)
            else:
                # A piece that is a whole part is that part.
                self._go_on(piece if isinstance(piece, bytes) and len(taken) == len(piece) else bytes(taken))

    def parts(self) -> dict[str, bytes]:
        """All parts. Raises ValueError if the content is not at its end."""
        if not self._between or self._missing != _LENGTHS.size:
            raise ValueError("the content ends in the middle of a part")
        return self._parts

    def _go_on(self, read: bytes) -> None:
        self._missing, self._between = self._reading.send(read)
        while not self._missing:
            self._missing, self._between = self._reading.send(b"")


def _reading(parts: dict[str, bytes]) -> Generator[tuple[int, bool], bytes, None]:
    """Puts parts into `parts`; asks for so many bytes, and says whether it is between two parts."""
    while True:
        name_length, part_length = _LENGTHS.unpack((yield _LENGTHS.size, True))
        name = (yield name_length, False).decode()
        parts[name] = yield part_length, False
