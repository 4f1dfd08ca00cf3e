"""Following the live views, through restarts of the server, with only the newest state of each key."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from datetime import datetime
from typing import Any, TypeVar

import msgspec
import structlog
from msgspec import UNSET, Struct

from l02.bus.connection.bus import Bus
from l02.bus.connection.leader import message_from_leader
from l02.bus.connection.streams import VIEWS_BUCKET, VIEWS_STREAM
from l02.bus.jetstream.pull import pull
from l02.client.discovery import reaching
from l02.domain.agent.resources import LiveUsage
from l02.domain.agent.state import ENDED
from l02.domain.identifiers import require_id
from l02.domain.spending.limits import LimitName
from l02.projections.folds.agents import AgentView
from l02.projections.folds.budgets import BudgetView
from l02.projections.folds.limits import LimitView

_SUBJECT = f"$KV.{VIEWS_BUCKET}"
_BATCH = 500
# Taken away by somebody, or by the server when its time was over.
_GONE = {"KV-Operation", "Nats-Marker-Reason"}
_decoder = msgspec.json.Decoder(AgentView)
_budget_decoder = msgspec.json.Decoder(BudgetView)
_usage_decoder = msgspec.json.Decoder(LiveUsage)
_log = structlog.get_logger()
T = TypeVar("T")


class Left(Struct, frozen=True, kw_only=True):
    """What is left of a limit on an agent's models, its own or that of a `budget`; `part` is that of its `amount`."""

    limit: LimitName
    budget: str | None
    part: float
    left: float
    amount: float
    reset_at: datetime | None


class Live:
    """All agents that have not ended, as they are now, and what those with a process take."""

    def __init__(self) -> None:
        self.agents: dict[str, AgentView] = {}
        self._budgets: dict[str, BudgetView] = {}
        self._usage: dict[str, LiveUsage] = {}

    def usage_of(self, agent: AgentView) -> LiveUsage | None:
        """What its process takes; None if it has none, whatever a node that was killed has left standing."""
        usage = self._usage.get(agent.id)
        if usage is None or agent.pid is None:
            return None
        return usage if (usage.node_id, usage.incarnation) == (agent.node_id, agent.incarnation) else None

    def left_of(self, agent: AgentView) -> Left | None:
        """The least that is left of its own limits and of those of its budgets, up to the root."""
        found = [*_left(None, agent.spent)]
        name, seen = agent.spec.budget, set[str]()
        while isinstance(name, str) and name not in seen and (budget := self._budgets.get(name)) is not None:
            seen.add(name)
            found += _left(name, budget.spent)
            name = UNSET if budget.parent is None else budget.parent
        return min(found, key=lambda left: left.part, default=None)

    def take(self, key: str, value: bytes | None) -> None:
        """A key of the views has this value now; None: it is gone. What nobody can read is passed over."""
        kind, _, name = key.partition(".")
        try:
            if kind == "agent":
                agent = None if value is None else _decoder.decode(value)
                _put(self.agents, name, None if agent is None or agent.state in ENDED else agent)
            elif kind == "budget":
                _put(self._budgets, name, None if value is None else _budget_decoder.decode(value))
            else:
                _put(self._usage, name, None if value is None else _usage_decoder.decode(value))
        except msgspec.MsgspecError as error:
            _log.warning("a live view cannot be read", key=key, error=str(error))


async def watch_agents(bus: Bus, agent_id: str | None = None) -> AsyncGenerator[AgentView, None]:
    """The present state of one agent or of all, then each new state, for ever."""
    key = f"agent.{require_id(agent_id, 'id') if agent_id is not None else '*'}"
    async with aclosing(_watch(bus, key)) as batches:
        async for batch, _ in batches:
            for _, value in batch:
                if value is not None:
                    yield _decoder.decode(value)


async def watch_live(bus: Bus) -> AsyncGenerator[Live, None]:
    """All agents as they are now; the same again whenever something has changed, for ever."""
    live, is_whole = Live(), False
    with reaching():
        if await message_from_leader(bus, VIEWS_STREAM, sequence=1, next_on=f"{_SUBJECT}.agent.*") is None:
            yield live
    async with aclosing(_watch(bus, "agent.*", "budget.*", "usage.*")) as batches:
        async for batch, is_newest in batches:
            for key, value in batch:
                live.take(key, value)
            is_whole = is_whole or is_newest
            if is_whole:
                yield live


async def _watch(bus: Bus, *keys: str) -> AsyncGenerator[tuple[list[tuple[str, bytes | None]], bool], None]:
    """The newest value of each key, then each new one, in batches; and whether that was all there is for now."""
    seen = 0

    async def config() -> dict[str, Any]:
        # From the newest of each key the first time, and after an interruption from where it was.
        begin: dict[str, Any] = {"deliver_policy": "last_per_subject"}
        if seen:
            begin = {"deliver_policy": "by_start_sequence", "opt_start_seq": seen + 1}
        return begin | {
            "ack_policy": "none",
            "filter_subjects": [f"{_SUBJECT}.{key}" for key in keys],
            "inactive_threshold": 60_000_000_000,
            "mem_storage": True,
            "num_replicas": 1,
        }

    with reaching():
        async with pull(bus, VIEWS_STREAM, config) as source:
            while True:
                batch: list[tuple[str, bytes | None]] = []
                pending = 0
                for message in await source.next_batch(_BATCH):
                    pending, sequence = message.metadata.num_pending, message.metadata.sequence.stream
                    if sequence > seen:
                        seen = sequence
                        is_gone = (message.headers or {}).keys() & _GONE
                        key = message.subject.removeprefix(f"{_SUBJECT}.")
                        batch.append((key, None if is_gone else message.data))
                if batch:
                    yield batch, pending == 0


def _left(budget: str | None, spent: Mapping[LimitName, LimitView]) -> Iterator[Left]:
    for limit, view in spent.items():
        if view.amount is not None and view.left is not None:
            yield Left(
                limit=limit,
                budget=budget,
                part=view.left / view.amount if view.amount else 0.0,
                left=view.left,
                amount=view.amount,
                reset_at=view.reset_at,
            )


def _put(into: dict[str, T], name: str, value: T | None) -> None:
    if value is None:
        into.pop(name, None)
    else:
        into[name] = value
