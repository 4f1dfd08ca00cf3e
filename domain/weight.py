"""What a JSON text may hold: to build its values must not keep an event loop from others, however many they are.

To build a text of one long string takes no time; one of a million empty lists, as long, takes seconds. So a text is
weighed before it is built, in a time that its length alone determines.
"""

from __future__ import annotations

from collections.abc import Iterator

MAX_WEIGHT = 500_000
"""Each value counts once, each key of an object four times more, each list and object ten, and each digit of a long
number: about as long as they take to build. So much takes less than 0.1 s of a core (tests/runtime/test_stalls.py)."""
WEIGHT_IN_WORDS = f"more than {MAX_WEIGHT:,} values, where each key counts five times, each list and object ten"
LIGHT_BYTES = MAX_WEIGHT // 5
"""What is no longer than this is light, whatever it holds."""
_MAX_STRINGS = 200_000
_SHORT_NUMBER_DIGITS = 20
_SIGNS, _DIGITS = b",:[{", b"0123456789"
_OTHERS = bytes(set(range(256)) - set(_SIGNS + _DIGITS))


def is_too_heavy(text: bytes) -> bool:
    """Whether to build the values of `text` takes too long."""
    return any(steps_of_weighing(text))


def steps_of_weighing(text: bytes) -> Iterator[bool]:
    """The same in steps, the last of which may be true; each takes a few hundredths of a second for 16 MiB."""
    if len(text) <= LIGHT_BYTES or _weight(text) <= MAX_WEIGHT:
        return
    # Perhaps it is all in its strings; a text with very many of them takes long to build too.
    yield False
    text = text.replace(rb"\\", b"").replace(rb"\"", b"")
    many = text.count(b'"') > 2 * _MAX_STRINGS
    yield many
    if not many:
        yield _weight(b"".join(text.split(b'"')[::2])) > MAX_WEIGHT


def _weight(text: bytes) -> int:
    relevant = text.translate(None, _OTHERS)
    commas, colons, lists, objects = (relevant.count(bytes([sign])) for sign in _SIGNS)
    digits = len(relevant) - commas - colons - lists - objects
    values = commas + lists + objects + 1
    return commas + 4 * colons + 10 * (lists + objects) + max(0, digits - _SHORT_NUMBER_DIGITS * values)
