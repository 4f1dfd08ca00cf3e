"""The object store: large values go in under their hash, and come out only if the hash still fits."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any

import msgspec
from nats.js.errors import NotFoundError

from l02.bus.connection.bus import Bus
from l02.bus.connection.streams import OBJECTS_BUCKET
from l02.bus.objects.bucket import ObjectBucket, ObjectDamaged
from l02.domain.errors import ErrorCode, Failure
from l02.domain.values import INLINE_LIMIT_BYTES, ObjectReference, as_reference

_REFERENCE_BYTES = 256
"""Less than that is not worth a reference."""
_KEYS_A_TURN = 1000


async def outline(bus: Bus, value: Any, limit: int = INLINE_LIMIT_BYTES) -> Any:
    """`value` itself if its JSON is at most `limit` bytes (256 KiB), else a reference to it, stored.

    A value that looks like a reference is stored too, so that what stands in an event is never taken for another thing.
    """
    raw = msgspec.json.encode(value)
    if len(raw) <= limit and as_reference(value) is None:
        return value
    digest = hashlib.sha256(raw).hexdigest()
    store = await bus.jetstream.object_store(OBJECTS_BUCKET)
    try:
        await store.get_info(digest)
    except NotFoundError:
        await store.put(digest, raw)
    return msgspec.to_builtins(ObjectReference(name=digest, sha256=digest, size=len(raw)))


async def outline_changes(bus: Bus, changes: dict[str, Any], deleted: list[str]) -> dict[str, Any]:
    """The values of an event: those that together have at most 256 KiB as they are, references to the others, stored.

    Failure E2115 if the keys alone, with their references, are too many for a message.
    """
    room = INLINE_LIMIT_BYTES
    kept: dict[str, Any] = {}
    for number, (key, value) in enumerate(changes.items()):
        if number % _KEYS_A_TURN == 0:
            await asyncio.sleep(0)
        kept[key] = await outline(bus, value, max(room, _REFERENCE_BYTES))
        room -= len(msgspec.json.encode(kept[key]))
    size, limit = len(msgspec.json.encode((kept, deleted))), bus.client.max_payload // 2
    if size > limit:
        raise Failure(
            ErrorCode.PAYLOAD_TOO_LARGE,
            f"the changed keys of the state have {size:,} bytes, an event has room for {limit:,}; use fewer or shorter",
        )
    return kept


async def inline(bus: Bus, value: Any) -> Any:
    """What a reference stands for; any other value as it is. A missing or changed object is a Failure (E2033)."""
    reference = as_reference(value)
    if reference is None:
        return value
    try:
        raw = await ObjectBucket(bus, OBJECTS_BUCKET).get(reference.name)
    except ObjectDamaged as error:
        raise Failure(ErrorCode.CHECKPOINT_CORRUPTED, str(error)) from error
    if raw is None:
        raise Failure(ErrorCode.CHECKPOINT_CORRUPTED, f"object {reference.name} is gone from the store")
    if hashlib.sha256(raw).hexdigest() != reference.sha256:
        raise Failure(ErrorCode.CHECKPOINT_CORRUPTED, f"object {reference.name} does not fit its hash")
    try:
        return msgspec.json.decode(raw)
    except msgspec.DecodeError as error:
        raise Failure(ErrorCode.CHECKPOINT_CORRUPTED, f"object {reference.name} is not a value") from error


async def inline_values(bus: Bus, values: dict[str, Any]) -> dict[str, Any]:
    """The same of each of many values. Raises as `inline`."""
    whole = dict(values)
    for key in [key for key, value in values.items() if type(value) is dict]:
        whole[key] = await inline(bus, values[key])
    return whole
