"""What of an agent goes into a checkpoint, as named bytes, and its durable state out of them again.

A checkpoint stands for itself: values that events only refer to are in it whole. Of the conversation it holds the work
in hand, with what was answered so far; work that has ended is in the agent's events up to the checkpoint's version.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec

from l02.bus.connection.bus import Bus
from l02.bus.objects.store import inline, outline
from l02.bus.wire.agent.values import as_bytes, from_bytes
from l02.domain.agent.state import AgentState, PendingCheckpoint
from l02.domain.errors import ErrorCode, Failure
from l02.domain.values import as_reference

SMALL_BYTES = 1024
"""A value of no more than that stays in the event even if many others are there too."""

_VALUE = "state/"
_BYTES = "bytes/"
_EVENT_BYTES = 256 * 1024
_KEYS_A_TURN = 1000
_encoder = msgspec.json.Encoder(order="sorted")


async def parts_of(bus: Bus, state: AgentState, version: int, pending: PendingCheckpoint) -> dict[str, bytes]:
    """The parts of a checkpoint of the agent as of its `version`. Failure E2033 if a value cannot be had any more."""
    data = pending.state.applied_to(state.data) if pending.state is not None else state.data
    parts = {
        "position": _encoder.encode({"version": version, "revision": state.revision}),
        "executions": _encoder.encode(
            [
                {"execution_id": item.execution_id, "input": item.input, "journal": item.journal.as_tuple()}
                for item in state.executions.values()
            ]
        ),
        "signals": _encoder.encode(state.signals),
    }
    for number, (key, value) in enumerate(data.items()):
        if number % _KEYS_A_TURN == 0:
            await asyncio.sleep(0)
        whole = await inline(bus, value)
        content = as_bytes(whole)
        if content is None:
            parts[_VALUE + key] = _encoder.encode(whole)
        else:
            parts[_BYTES + key] = content
    return parts


def state_of(parts: Mapping[str, bytes]) -> dict[str, Any]:
    """The agent's durable state that a checkpoint holds. Failure E2033 if it is none."""
    data: dict[str, Any] = {}
    try:
        for name, content in parts.items():
            if name.startswith(_VALUE):
                data[name.removeprefix(_VALUE)] = msgspec.json.decode(content)
            elif name.startswith(_BYTES):
                data[name.removeprefix(_BYTES)] = from_bytes(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Failure(ErrorCode.CHECKPOINT_CORRUPTED, f"a value of the checkpoint cannot be read: {error}") from error
    return data


async def outline_all(bus: Bus, data: Mapping[str, Any]) -> dict[str, Any]:
    """A state as an event can hold it: large values by reference, and of many only the small ones by value."""
    return await fitting(bus, {key: await outline(bus, value) for key, value in data.items()})


async def fitting(bus: Bus, outlined: Mapping[str, Any]) -> dict[str, Any]:
    """The same for a state whose large values are references already."""
    if len(_encoder.encode(outlined)) <= _EVENT_BYTES:
        return dict(outlined)
    return {
        key: value if as_reference(value) is not None else await outline(bus, value, limit=SMALL_BYTES)
        for key, value in outlined.items()
    }
