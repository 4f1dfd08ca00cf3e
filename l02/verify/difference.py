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


def differs(place: str, key: str, sequence: int, name: str, expected: Any, found: Any, what: str = "") -> Difference:
    """A field that is not as the events say; `what` people call it, if not by its name."""
    return Difference(
        place=place,
        key=key,
        sequence=sequence,
        message=f"{what or name} is {show(found)}, by the events it is {show(expected)}",
        field=name,
        expected=expected,
        found=found,
    )


Report = Callable[[Difference], None]


def behind(place: str, position: int, target: int, patience: float) -> Difference:
    """A projection that has not come as far as it is to be compared."""
    message = f"it has come to event {position} and no further in {patience:g} s; is a node running?"
    return _stands(place, position, target, message)


def ahead(place: str, position: int, possible: int) -> Difference:
    """A projection that claims more than there is: of another stream, or of events that nobody can project."""
    message = f"it claims to reflect the events up to {position}; those it can have seen end at {possible}"
    return _stands(place, position, possible, message)


def _stands(place: str, found: int, expected: int, message: str) -> Difference:
    return Difference(
        place=place, key="", sequence=expected, message=message, field="position", expected=expected, found=found
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
