"""What an agent may hand to the runtime: JSON values, checked where they are handed over.

A value that JSON would change on its way (NaN becomes null, a tuple a list) would read differently after a crash
than before it, so it is refused with its name, instead of being changed in silence.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, MutableMapping
from typing import Any

import msgspec

from l02.bus.wire.agent.protocol import StateChanges

BYTES = "$bytes"
"""The one key of the object that stands in JSON for bytes in an agent's state."""

_encoder = msgspec.json.Encoder()
_ENCODING_ERRORS = (TypeError, ValueError, OverflowError, RecursionError, msgspec.EncodeError)


def to_json(value: object, what: str) -> msgspec.Raw:
    """The value as JSON; dataclasses, dates and the like become what msgspec makes of them.

    Raises `TypeError`, which calls the value `what`, if it cannot be JSON.
    """
    return msgspec.Raw(_encode(value, what))


def _encode(value: object, what: str) -> bytes:
    try:
        encoded = _encoder.encode(value)
        if b"null" in encoded:  # perhaps NaN or infinity, which msgspec writes as null; json refuses them
            json.dumps(msgspec.to_builtins(value, str_keys=True), allow_nan=False)
    except _ENCODING_ERRORS as error:
        raise TypeError(f"{what} is not a JSON value: {error}") from error
    return encoded


def from_bytes(value: bytes) -> dict[str, str]:
    """What stands for bytes: `{"$bytes": base64}`."""
    return {BYTES: base64.b64encode(value).decode()}


def as_bytes(value: object) -> bytes | None:
    """The bytes that a value of an agent's state stands for; None if it is something else."""
    if not isinstance(value, dict) or value.keys() != {BYTES} or not isinstance(value[BYTES], str):
        return None
    try:
        return base64.b64decode(value[BYTES], validate=True)
    except (binascii.Error, ValueError):
        return None


class State(MutableMapping[str, Any]):
    """An agent's durable state: text keys, JSON values or bytes.

    It is written when the execution completes, and dropped when it fails. Values read from it may be changed in
    place. Threads may set and delete keys while another goes over them: it goes over those that there were.
    Raises `TypeError`, naming the key, for a value that would be read back as another one.
    """

    def __init__(self, stored: dict[str, Any]) -> None:
        self._stored = frozenset(stored)
        self._values = {key: _as_kept(value) for key, value in stored.items()}
        self._before: dict[str, bytes] = {}
        """JSON of each stored value that was read, as it was then: values can be changed in place."""

    def __getitem__(self, key: str) -> Any:
        value = self._values[key]
        if key in self._stored and key not in self._before:
            self._before[key] = _encode_kept(key, value)
        return value

    def __setitem__(self, key: str, value: Any) -> None:
        if not isinstance(key, str):
            raise TypeError(f"a key of ctx.state is text, not {type(key).__name__}")
        _encode_kept(key, value)
        self._before.setdefault(key, b"")
        self._values[key] = value

    def __delitem__(self, key: str) -> None:
        del self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter([*self._values])

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"State({self._values!r})"

    def changes(self) -> StateChanges:
        """What differs from the stored state, changes in place included."""
        changed: dict[str, Any] = {}
        for key, before in [*self._before.items()]:
            if key in self._values:
                encoded = _encode_kept(key, self._values[key])
                if encoded != before:
                    changed[key] = msgspec.Raw(encoded)
        return StateChanges(changed, sorted(self._stored - self._values.keys()))


def _as_kept(value: Any) -> Any:
    content = as_bytes(value)
    return value if content is None else content


def _encode_kept(key: str, value: object) -> bytes:
    if isinstance(value, bytes):
        return _encoder.encode(from_bytes(value))
    if isinstance(value, dict) and value.keys() == {BYTES}:
        raise TypeError(f"ctx.state[{key!r}]: an object whose only key is {BYTES!r} stands for bytes; set those")
    encoded = _encode(value, f"ctx.state[{key!r}]")
    if msgspec.json.decode(encoded) != value:
        raise TypeError(
            f"ctx.state[{key!r}] would be read back as another value: keep only lists, dicts with text keys, text, "
            "finite numbers, booleans and None, or bytes alone"
        )
    return encoded
