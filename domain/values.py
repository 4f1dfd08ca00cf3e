"""Values too large for an event live in the object store; the event holds a reference with a hash to trust it by."""

from __future__ import annotations

from typing import Any

from msgspec import Struct

__all__ = ["INLINE_LIMIT_BYTES", "ObjectReference", "as_reference"]

INLINE_LIMIT_BYTES = 256 * 1024


class ObjectReference(Struct, frozen=True, kw_only=True, rename={"name": "$object"}):
    """`$object` names the object, `sha256` is the hash of its bytes (JSON), `size` their number."""

    name: str
    sha256: str
    size: int


def as_reference(value: Any) -> ObjectReference | None:
    """The reference that `value` is, if it is one."""
    if isinstance(value, dict) and value.keys() == {"$object", "sha256", "size"}:
        return ObjectReference(name=value["$object"], sha256=value["sha256"], size=value["size"])
    return None
