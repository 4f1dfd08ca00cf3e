"""What a verification finds, said so exactly that one can go and look: where, which key, which event, which field."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from msgspec import Struct

_SHOWN_CHARACTERS = 200


class Difference(Struct, frozen=True, kw_only=True):
    """Something that is not as the events say, or an event that cannot be.

    `place` is events, the name of a table, views, or snapshots; `sequence` the event that it is about, for a row, a
    view or a snapshot the last one that it has to reflect. `expected` and `found` are the values of `field`, if it is
    about one.
    """

    place: str
    key: str
    sequence: int
    message: str
    field: str | None = None
    expected: Any = None
    found: Any = None


Report = Callable[[Difference], None]


def behind(place: str, position: int, target: int, patience: float) -> Difference:
    """A projection that has not come as far as it is to be compared."""
    return Difference(
        place=place,
        key="",
        sequence=target,
        message=f"it has come to event {position} and no further in {patience:g} s; is a node running?",
        field="position",
        expected=target,
        found=position,
    )


def ahead(place: str, position: int, possible: int) -> Difference:
    """A projection that claims more than there is: of another stream, or of events that nobody can project."""
    return Difference(
        place=place,
        key="",
        sequence=possible,
        message=f"it claims to reflect the events up to {position}; those it can have seen end at {possible}",
        field="position",
        expected=possible,
        found=position,
    )


def show(value: Any) -> str:
    """A value in JSON for a message, cut off where it is long."""
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "…"


def compare_json(expected: bytes, found: bytes) -> Iterator[tuple[str, Any, Any]]:
    """The paths in which two JSON documents differ, with both values; the path of the whole is empty.

    None if they are equal byte for byte.
    """
    if expected == found:
        return
    try:
        decoded = msgspec.json.decode(found)
    except (msgspec.DecodeError, RecursionError):
        decoded = found.decode(errors="replace")
    wanted = msgspec.json.decode(expected)
    paths = [*_differing("", wanted, decoded)]
    # The same values, but another order or another way to write them.
    yield from paths or [("", wanted, decoded)]


def _differing(path: str, expected: Any, found: Any) -> Iterator[tuple[str, Any, Any]]:
    if not isinstance(expected, dict) or not isinstance(found, dict):
        if expected != found or type(expected) is not type(found):
            yield path, expected, found
        return
    for name in {**expected, **found}:
        inner = f"{path}.{name}" if path else name
        if name in expected and name in found:
            yield from _differing(inner, expected[name], found[name])
        else:
            yield inner, expected.get(name), found.get(name)
