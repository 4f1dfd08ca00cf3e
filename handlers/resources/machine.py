"""What agents take of this machine, for those who watch: live, beside the views, and as events where it has moved.

The log is kept for ever, so an event stands in it only for what has moved by a tenth. The live figures are no events:
key `usage.<id>` of the views has them for as long as the process runs, and is not part of what is replayed.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

import msgspec
import structlog
from msgspec.structs import replace
from nats.errors import Error as NatsError

from l02.bus.background.cancelling import end
from l02.bus.connection.bus import Bus
from l02.bus.connection.leader import message_from_leader, subjects_of
from l02.bus.connection.streams import VIEWS_STREAM
from l02.bus.log.contained import contained
from l02.bus.log.repository import Repository
from l02.bus.wire.subjects import usage_subject
from l02.domain.agent.resources import LiveUsage, ResourceUsageSeen, ResourceWarned, has_moved
from l02.domain.agent.state import AgentState, ResourceUsage
from l02.handlers.sandbox.process import Threshold
from l02.handlers.sandbox.processes import AgentProcess, Processes

LIVE_SECONDS = 5.0
"""Between two looks; what is shown is never older, unless it has not moved."""
_RATE_SECONDS = 60.0
_REST_SHARE = 0.01
_SHARE_SECONDS = 1.0
"""A share of the processors is one over so long at least."""
_GONE = {"KV-Operation": "DEL", "Nats-TTL": "60s"}
_TIMEOUT_SECONDS = 2.0
_AWAY = (NatsError, OSError, TimeoutError)
_log = structlog.get_logger()
_decoder = msgspec.json.Decoder(LiveUsage)


@dataclass(slots=True)
class _Watched:
    """An agent's process. `before` is what the agent had used before it."""

    process: AgentProcess
    before: ResourceUsage
    tokens: deque[tuple[float, int]]
    """When there were how many, over the last minute."""
    latest: LiveUsage
    seen_at: float
    seconds: float
    """Of processors, by then; its share is what came since."""
    shown: ResourceUsageSeen | None = None
    recorded: ResourceUsageSeen | None = None


class MachineWatch:
    """One per node."""

    def __init__(
        self,
        bus: Bus,
        agents: Repository[AgentState],
        processes: Processes,
        report_seconds: float,
        live_seconds: float = LIVE_SECONDS,
    ) -> None:
        self._bus = bus
        self._agents = agents
        self._processes = processes
        self._node_id = agents.node_id
        self._report_seconds = report_seconds
        self._live_seconds = min(live_seconds, report_seconds)
        self._watched: dict[str, _Watched] = {}
        self._warning: set[asyncio.Task[bool]] = set()
        processes.on_threshold = self._warn

    @property
    def live(self) -> list[LiveUsage]:
        """What was seen last of each agent that has a process here."""
        return [watched.latest for watched in self._watched.values()]

    async def run(self) -> None:
        """Watch until cancelled; then nothing is shown any more."""
        await contained(self._hide_those_of_before, "hiding what agents took before", self._node_id, again=False)
        clock = asyncio.get_running_loop()
        due = clock.time() + self._report_seconds
        try:
            while True:
                await asyncio.sleep(self._live_seconds)
                is_due = clock.time() >= due
                await self.look(is_due)
                if is_due:
                    due += self._report_seconds
        finally:
            for task in [*self._warning]:
                await end(task)
            await asyncio.gather(*map(self._hide, self._watched))

    async def look(self, is_due: bool) -> None:
        """Show what has moved of each agent, and record it if that `is_due`."""
        running = self._processes.running
        for agent_id in self._watched.keys() - running.keys():
            del self._watched[agent_id]
            await self._hide(agent_id)
        for agent_id, process in running.items():
            look = partial(self._look_at, agent_id, process, is_due)
            await contained(look, "looking at what an agent takes", agent_id, again=False)

    async def _look_at(self, agent_id: str, process: AgentProcess, is_due: bool) -> None:
        watched = self._watched.get(agent_id)
        if watched is None or watched.process is not process:
            watched = self._watched[agent_id] = await self._begin(agent_id, process)
        else:
            self._measure(watched)
        seen, limits = _as_event(watched.latest), process.limits
        if self._is_news(watched, seen, is_due):
            watched.shown = seen
            await self._show(watched.latest)
        if is_due and has_moved(limits, watched.recorded, seen):
            watched.recorded = seen
            await self._agents.record(agent_id, seen)

    def _is_news(self, watched: _Watched, seen: ResourceUsageSeen, is_due: bool) -> bool:
        """Whether what is shown is to be replaced: an agent that rests writes nothing, though it answers pings."""
        shown = watched.shown
        if shown is None or seen.tokens_consumed != shown.tokens_consumed:
            return True
        has_used = seen.cpu_seconds - shown.cpu_seconds > _REST_SHARE * self._report_seconds
        return has_moved(watched.process.limits, shown, seen) or (is_due and has_used)

    async def _begin(self, agent_id: str, process: AgentProcess) -> _Watched:
        """Its processors are not known yet: they are what it uses between two looks."""
        before, figures = (await self._agents.load(agent_id)).state.usage, process.figures
        latest = LiveUsage(
            id=agent_id,
            node_id=self._node_id,
            incarnation=process.incarnation,
            at=_now(),
            cpu_cores=0.0,
            cpu_seconds=before.cpu_seconds + figures.cpu_seconds,
            memory_bytes=figures.memory_bytes,
            memory_peak_bytes=max(before.memory_peak_bytes, figures.memory_peak_bytes),
            tokens=before.tokens_consumed,
            tokens_per_minute=0.0,
        )
        clock = asyncio.get_running_loop().time()
        return _Watched(process, before, deque([(clock, before.tokens_consumed)]), latest, clock, latest.cpu_seconds)

    def _measure(self, watched: _Watched) -> None:
        figures, latest, before = watched.process.figures, watched.latest, watched.before
        clock = asyncio.get_running_loop().time()
        loaded = self._agents.in_memory(latest.id)
        tokens = latest.tokens if loaded is None else loaded.state.usage.tokens_consumed
        while len(watched.tokens) > 1 and watched.tokens[1][0] <= clock - _RATE_SECONDS:
            watched.tokens.popleft()
        since, tokens_then = watched.tokens[0]
        watched.tokens.append((clock, tokens))
        seconds = before.cpu_seconds + figures.cpu_seconds
        cores = latest.cpu_cores
        if clock - watched.seen_at >= _SHARE_SECONDS:
            cores = round((seconds - watched.seconds) / (clock - watched.seen_at), 3)
            watched.seen_at, watched.seconds = clock, seconds
        watched.latest = replace(
            latest,
            at=_now(),
            cpu_cores=cores,
            cpu_seconds=seconds,
            memory_bytes=figures.memory_bytes,
            memory_peak_bytes=max(before.memory_peak_bytes, figures.memory_peak_bytes),
            tokens=tokens,
            tokens_per_minute=round((tokens - tokens_then) / max(clock - since, self._live_seconds) * 60, 1),
        )

    def _warn(self, agent_id: str, incarnation: int, reached: Threshold) -> None:
        warned = ResourceWarned(
            resource_type=reached.resource,
            current_usage=reached.used,
            limit=reached.limit,
            threshold_percent=reached.percent,
            incarnation=incarnation,
        )
        record = partial(self._agents.record, agent_id, warned)
        task = asyncio.create_task(contained(record, "warning of a limit", agent_id, again=False))
        self._warning.add(task)
        task.add_done_callback(self._warning.discard)

    async def _show(self, usage: LiveUsage) -> None:
        await self._put(usage.id, msgspec.json.encode(usage), {})

    async def _hide(self, agent_id: str) -> None:
        await self._put(agent_id, b"", _GONE)

    async def _put(self, agent_id: str, value: bytes, headers: dict[str, str]) -> None:
        """A server that is away is not waited for: what is shown is shown again when it has moved."""
        try:
            subject = usage_subject(agent_id)
            await self._bus.requests.publish(subject, value, timeout=_TIMEOUT_SECONDS, headers=headers)
        except _AWAY as error:
            _log.warning("what an agent takes is not shown", agent_id=agent_id, error=repr(error))

    async def _hide_those_of_before(self) -> None:
        """Those of this node's processes that ended with it, when it was killed."""
        for subject in await subjects_of(self._bus, VIEWS_STREAM, usage_subject("*")):
            stored = await message_from_leader(self._bus, VIEWS_STREAM, last_on=subject)
            if stored is not None and _node_of(stored.data) == self._node_id:
                await self._hide(subject.rpartition(".")[2])


def _as_event(usage: LiveUsage) -> ResourceUsageSeen:
    return ResourceUsageSeen(
        incarnation=usage.incarnation,
        cpu_seconds=usage.cpu_seconds,
        cpu_cores=usage.cpu_cores,
        memory_bytes=usage.memory_bytes,
        memory_peak_bytes=usage.memory_peak_bytes,
        tokens_consumed=usage.tokens,
    )


def _node_of(stored: bytes) -> str | None:
    """Whose figures these are; None of what are none."""
    try:
        return _decoder.decode(stored).node_id
    except msgspec.MsgspecError:
        return None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
