"""What a JSON value inside an event may be: not too deep, and not too large.

Values too large for an event live in the object store; the event holds a reference with a hash to trust it by.
"""

from __future__ import annotations

from itertools import chain, compress
from typing import Any

import msgspec
from msgspec import Struct

from l02.domain.errors import ErrorCode, Failure

INLINE_LIMIT_BYTES = 256 * 1024
MAX_DEPTH = 100
REFERENCE_KEY = b'"$object"'
"""What is in the JSON of every reference to an object."""


class ObjectReference(Struct, frozen=True, kw_only=True, rename={"name": "$object"}):
    """`$object` names the object, `sha256` is the hash of its bytes (JSON), `size` their number."""

    name: str
    sha256: str
    size: int


def as_reference(value: Any) -> ObjectReference | None:
    """The reference that `value` is, if it is one."""
    if not isinstance(value, dict) or value.keys() != {"$object", "sha256", "size"}:
        return None
    name, sha256, size = value["$object"], value["sha256"], value["size"]
    if isinstance(name, str) and isinstance(sha256, str) and type(size) is int:
        return ObjectReference(name=name, sha256=sha256, size=size)
    return None


def require_shallow(value: Any, path: str) -> None:
    """Raise E2110 if `value` nests lists and objects deeper than 100.

    A reader's own depth counts towards the depth that Python can decode (about 1000 together): what is deep but just
    readable here would be unreadable to a later reader, for ever.
    """
    if is_deeper(value, MAX_DEPTH):
        raise Failure(ErrorCode.COMMAND_INVALID, f"lists and objects are nested more than {MAX_DEPTH} deep", path)


def require_state(state: dict[str, Any], path: str) -> None:
    """Raise E2110 or E2115 if `state` cannot be an agent's durable state, as it stands in an event."""
    require_shallow(state, path)
    size = len(msgspec.json.encode(state))
    if size > INLINE_LIMIT_BYTES:
        raise Failure(
            ErrorCode.PAYLOAD_TOO_LARGE, f"the state has {size:,} bytes, at most {INLINE_LIMIT_BYTES:,} are taken", path
        )
    for key, value in state.items():
        if as_reference(value) is not None:
            raise Failure(ErrorCode.COMMAND_INVALID, "a reference is the runtime's to make", f"{path}.{key}")


def nests_deeper(raw: bytes, depth: int) -> bool:
    """Whether JSON nests lists and objects deeper than `depth`. Raises what decoding raises."""
    if raw.count(b"[") + raw.count(b"{") <= depth:
        return False
    return is_deeper(msgspec.json.decode(raw), depth)


def is_deeper(value: Any, depth: int) -> bool:
    """Whether a value nests lists and objects deeper than `depth`."""
    level: list[Any] = [value]
    for _ in range(depth + 1):
        kinds = set(map(type, level))
        lists = _of(kinds, list, level)
        objects = _of(kinds, dict, level)
        if not lists and not objects:
            return False
        level = [*chain.from_iterable(lists), *chain.from_iterable(map(dict.values, objects))]
    return True


def _of(kinds: set[type], kind: type, values: list[Any]) -> list[Any]:
    """The values of one of the kinds there are: without a step of Python's for each, as there may be half a million."""
    wanted = {one for one in kinds if issubclass(one, kind)}
    return list(compress(values, map(wanted.__contains__, map(type, values)))) if wanted else []
