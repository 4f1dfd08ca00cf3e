"""The object store: large values go in under their hash, and come out only if the hash still fits."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from nats.js.errors import NotFoundError

from bus.connection import Bus
from bus.object_bucket import ObjectBucket, ObjectDamaged
from bus.streams import OBJECTS_BUCKET
from domain.errors import ErrorCode, Failure
from domain.values import INLINE_LIMIT_BYTES, ObjectReference, as_reference

__all__ = ["inline", "outline"]


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
