"""What a JSON text may hold: to build its values must not keep an event loop from others, however many they are.

To build a text of one long string takes no time; one of a million empty lists, as long, takes seconds. So a text is
weighed before it is built, in a time that its length alone determines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

MAX_WEIGHT = 500_000
"""Each value counts once, each key of an object four times more, each list and object ten, and each digit of a long
number: about as long as they take to build. So much takes less than 0.1 s of a core (tests/runtime/test_stalls.py)."""
WEIGHT_IN_WORDS = f"more than {MAX_WEIGHT:,} values, where each key counts five times, each list and object ten"
LIGHT_BYTES = MAX_WEIGHT // 5
"""What is no longer than this is light, whatever it holds."""
_MAX_STRINGS = 200_000
_SHORT_NUMBER_DIGITS = 20
_PIECE_BYTES = 2 * 1024 * 1024
_VALUE_BYTES, _CONTAINER_BYTES = 40, 64
"""Of memory that a value, and a list or an object, takes beside its text (CPython 3.11, 64 bits)."""
_NO_BACKSLASH = re.compile(rb"[^\\]")
_SIGNS, _DIGITS = b",:[{", b"0123456789"
_OTHERS = bytes(set(range(256)) - set(_SIGNS + _DIGITS))


def is_too_heavy(text: bytes) -> bool:
    """Whether to build the values of `text` takes too long."""
    return any(steps_of_weighing(text))


def footprint(text: bytes) -> int:
    """About how many bytes of memory the values of a text take that is not too heavy."""
    if len(text) > _PIECE_BYTES:
        return len(text) + _VALUE_BYTES * MAX_WEIGHT // 5
    containers = text.count(b"[") + text.count(b"{")
    return len(text) + _VALUE_BYTES * text.count(b",") + _CONTAINER_BYTES * containers


def steps_of_weighing(text: bytes) -> Iterator[bool]:
    """The same in steps, the last of which may be true; each takes a few hundredths of a second for 16 MiB."""
    if len(text) <= LIGHT_BYTES:
        return
    whole = _Weight()
    for start in range(0, len(text), _PIECE_BYTES):
        whole.add(text[start : start + _PIECE_BYTES])
        yield False
    if whole.total <= MAX_WEIGHT:
        return
    # Perhaps it is all in its strings; a text with very many of them takes long to build too.
    pieces = []
    for piece in _pieces(text):
        pieces.append(piece.replace(rb"\\", b"").replace(rb"\"", b""))
        yield False
    text = b"".join(pieces)
    many = text.count(b'"') > 2 * _MAX_STRINGS
    yield many
    if many:
        return
    text = b"".join(text.split(b'"')[::2])
    yield False
    outside = _Weight()
    for start in range(0, len(text), _PIECE_BYTES):
        outside.add(text[start : start + _PIECE_BYTES])
        yield False
    yield outside.total > MAX_WEIGHT


def _pieces(text: bytes) -> Iterator[bytes]:
    """The text in pieces of about 2 MiB, none of which ends in the midst of an escape."""
    start = 0
    while start < len(text):
        no_escape = _NO_BACKSLASH.search(text, start + _PIECE_BYTES)
        end = len(text) if no_escape is None else no_escape.end()
        yield text[start:end]
        start = end


class _Weight:
    """Of a text in pieces, as if it had no strings."""

    def __init__(self) -> None:
        self._light = 0
        self._values = 1
        self._digits = 0

    def add(self, piece: bytes) -> None:
        relevant = piece.translate(None, _OTHERS)
        commas, colons, lists, objects = (relevant.count(bytes([sign])) for sign in _SIGNS)
        self._digits += len(relevant) - commas - colons - lists - objects
        self._values += commas + lists + objects
        self._light += commas + 4 * colons + 10 * (lists + objects)

    @property
    def total(self) -> int:
        return self._light + max(0, self._digits - _SHORT_NUMBER_DIGITS * self._values)
