"""How large an agent's durable state may become: it goes to each execution in one message, and must fit into that."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec

from l02.bus.wire.agent.protocol import StateChanges
from l02.domain.agent.state import StateChange
from l02.domain.errors import ErrorCode, Failure
from l02.domain.weight import WEIGHT_IN_WORDS, steps_of_weighing

MAX_STATE_BYTES = 12 * 1024 * 1024
"""As JSON: three quarters of `protocol.MAX_LINE`, the rest is for the execution's input."""


async def require_passable(data: dict[str, Any], changes: StateChanges) -> None:
    """Failure E2115 if the state `data`, so changed, could not be handed to the next execution."""
    whole = msgspec.json.encode(StateChange(set=changes.set, delete=tuple(changes.delete)).applied_to(data))
    if len(whole) > MAX_STATE_BYTES:
        raise Failure(
            ErrorCode.PAYLOAD_TOO_LARGE,
            f"the state would have {len(whole):,} bytes in all, at most {MAX_STATE_BYTES:,} are kept; delete keys",
        )
    for is_too_heavy in steps_of_weighing(whole):
        await asyncio.sleep(0)  # a turn for others after each step
        if is_too_heavy:
            raise Failure(ErrorCode.PAYLOAD_TOO_LARGE, f"the state would hold {WEIGHT_IN_WORDS}; delete keys")
