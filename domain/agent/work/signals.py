"""What somebody tells an agent that waits for it, now or later."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import msgspec
from msgspec import Meta
from msgspec.structs import replace

from l02.domain.agent.life.suspension import woken
from l02.domain.agent.messages import AgentCommand, AgentEvent, refuse
from l02.domain.agent.state import AgentState, PendingSignal
from l02.domain.errors import ErrorCode, Failure
from l02.domain.kernel.message import Context
from l02.domain.values import require_shallow

MAX_PENDING_SIGNALS = 1000
MAX_PENDING_BYTES = 4 * 1024 * 1024
"""Of them as JSON: a checkpoint holds them all, and so does the event of a fork."""


class Signal(AgentCommand, frozen=True, kw_only=True):
    """Tell the agent something it waits for, now or later. A payload left out or null is `true`."""

    verb: ClassVar[str] = "signal"
    name: Annotated[str, Meta(min_length=1, max_length=128)]
    payload: Any = None

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """It is kept for who waits for it; one that sleeps is woken."""
        if not agent.is_live:
            refuse(agent, self.verb, "nobody is left to hear it")
        if len(agent.signals) >= MAX_PENDING_SIGNALS:
            raise Failure(
                ErrorCode.INVALID_STATE,
                f"{MAX_PENDING_SIGNALS} signals wait to be taken; the agent does not read them",
            )
        waiting = len(msgspec.json.encode(agent.signals)) if agent.signals else 0
        if waiting + len(msgspec.json.encode(self.payload)) > MAX_PENDING_BYTES:
            raise Failure(
                ErrorCode.PAYLOAD_TOO_LARGE,
                f"signals of {waiting:,} bytes wait to be taken, at most {MAX_PENDING_BYTES:,} with this one may; the "
                "agent does not read them: put what is large in a file, and send its path",
                "$.payload",
            )
        require_shallow(self.payload, "$.payload")
        payload = True if self.payload is None else self.payload  # null is what a wait that timed out gives
        return [*woken(agent, context.node_id), SignalReceived(name=self.name, payload=payload)]


class SignalReceived(AgentEvent, frozen=True, kw_only=True):
    """Someone told the agent something; a waiting execution takes it, or the next that waits for its name."""

    type: ClassVar[str] = "agent.signal.received"
    name: str
    payload: Any

    def evolve(self, agent: AgentState, /) -> AgentState:
        """It waits to be taken."""
        signals = (*agent.signals, PendingSignal(name=self.name, payload=self.payload))
        return replace(agent, signals=signals, revision=agent.revision + 1)
