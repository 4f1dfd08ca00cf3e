"""When checkpoints expire: a durable timer for each agent, set again whenever its checkpoints change.

What is due follows from the agent alone, so setting the timer once too often or after a crash does no harm, and the
command that it sends names the checkpoints, so that one that comes late or twice takes no others.
"""

from __future__ import annotations

import uuid
from collections import OrderedDict
from datetime import UTC, datetime

import msgspec

from l02.bus.commands.timers import set_timer
from l02.bus.connection.bus import Bus
from l02.bus.wire.subjects import AggregateId
from l02.domain.agent.saved.checkpoints import ExpireCheckpoints
from l02.domain.agent.state import AgentState
from l02.handlers.state.settings import StateSettings

_REMEMBERED = 10_000
_DAY_SECONDS = 86_400.0
_AT_ONCE = 1000
_TIMER = "expire-checkpoints"


def next_expiry(state: AgentState, settings: StateSettings) -> tuple[float, list[str]] | None:
    """When (seconds since 1970) which checkpoints of the agent are to expire next; None if all it has are kept."""
    stored = list(state.checkpoints.values())
    mortal = stored[: max(0, len(stored) - _kept(state, settings))]
    if not mortal:
        return None
    due = min(item.created_at for item in mortal) + settings.retention_days * _DAY_SECONDS
    expired = [item for item in mortal if item.created_at + settings.retention_days * _DAY_SECONDS <= due]
    return due, [item.checkpoint_id for item in expired][:_AT_ONCE]


def _kept(state: AgentState, settings: StateSettings) -> int:
    """How many of the newest do not expire; an agent that has ended is not brought back any more."""
    return 0 if state.has_ended else settings.keep_last


class Retention:
    """Sets the timers."""

    def __init__(self, bus: Bus, settings: StateSettings) -> None:
        self._bus = bus
        self._settings = settings
        self._set: OrderedDict[str, tuple[float, list[str]]] = OrderedDict()

    async def look(self, agent_id: str, state: AgentState) -> None:
        """See that the agent's timer is set as it has to be."""
        expiry = next_expiry(state, self._settings)
        if expiry is None:
            return
        if self._set.get(agent_id) == expiry:
            return
        due, checkpoint_ids = expiry
        body = {"checkpoint_ids": checkpoint_ids, "keep": _kept(state, self._settings), "wait": "accepted"}
        await set_timer(
            self._bus,
            AggregateId("agent", agent_id),
            _TIMER,
            due=datetime.fromtimestamp(due, UTC),
            verb=ExpireCheckpoints.verb,
            body=msgspec.json.encode(body),
            command_id=uuid.uuid4().hex,
        )
        self._set[agent_id] = expiry
        self._set.move_to_end(agent_id)
        if len(self._set) > _REMEMBERED:
            self._set.popitem(last=False)
