"""When an execution that is run again does not do what is on record, and how that is said: both ends may notice."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import UNSET

from l02.bus.wire.agent.protocol import Call, Step
from l02.bus.wire.agent.texts import cut

REPLAY_STALL_SECONDS = 60.0
"""So long it is waited for a recorded call to be made."""
_SHOWN_BYTES = 1024


def request_of(call: Call | Step) -> Any:
    """What is compared when the execution runs again: the same effect with the same arguments, or E2116."""
    match call:
        case Call(kind="tool") | Step(kind="tool"):
            return {"tool": call.tool, "arguments": call.arguments}
        case Call(kind="model"):
            return {"alias": call.model, "sha256": call.asked.sha256}
        case Call(kind="sleep"):
            return {"seconds": call.seconds}
        case Call(kind="signal"):
            return {"name": call.name, "timeout": None if call.timeout is UNSET else call.timeout}
        case Call(kind="checkpoint"):
            return {"label": None if call.label is UNSET else call.label}
        case _:
            return {}


def another(call: Call, recorded_kind: str, recorded: Any) -> str:
    """There is another call at the number."""
    return (
        f"call {call.call} was {recorded_kind} {_shown(recorded)}, and is {call.kind} {_shown(request_of(call))} this "
        "time; an agent must make the same calls when it gets the same answers (docs/agent-protocol.md)"
    )


def not_made(missing: int, kind: str) -> str:
    """It is waited for a call, or thread, in vain."""
    return f"{_name(missing, kind)} was answered before others, and is not made this time"


def ended_early(calls: int, missing: int, kind: str) -> str:
    """The execution has ended without it."""
    return f"the execution ended after {calls} calls, but {_name(missing, kind)} is on record"


def _name(number: int, kind: str) -> str:
    return f"thread {number}" if kind == "thread" else f"call {number} ({kind})"


def _shown(request: Any) -> str:
    return cut(msgspec.json.encode(request).decode(), _SHOWN_BYTES)
