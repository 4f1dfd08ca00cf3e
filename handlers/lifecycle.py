"""The lifecycle manager: brings each agent of this node to the process its events say it should have.

An agent's events say what is wanted; a keeper per agent compares that with the process there is, and starts, stops or
reports. Events only wake the keeper, so a repeated, late or lost one does no harm, and a node that begins anew
continues by looking.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Protocol

import msgspec
import structlog

from l02.bus.commands.react import EventReader
from l02.bus.commands.timers import cancel_timer, set_timer
from l02.bus.connection.bus import Bus
from l02.bus.log.contained import contained
from l02.bus.log.loaded import Loaded
from l02.bus.log.repository import Repository
from l02.bus.wire.codec import RecordedEvent
from l02.bus.wire.subjects import AggregateId
from l02.domain.agent.life.restarts import (
    AgentFailed,
    AgentRestarted,
    RecoverProcess,
    ReportExit,
    ReportSpawnFailed,
    RestartDue,
)
from l02.domain.agent.life.spawning import AgentSpawned, SpawnRequested
from l02.domain.agent.life.suspension import AgentResumed, AgentSuspended
from l02.domain.agent.life.termination import AgentTerminated, TerminationRequested
from l02.domain.agent.state import AgentState
from l02.domain.errors import ErrorCode, Failure, PermanentFailure
from l02.handlers.sandbox.log import remove_old_logs
from l02.handlers.sandbox.processes import AgentProcess, Processes

_log = structlog.get_logger()
_FILES_SECONDS = 3600.0
_STOP_SECONDS = 2.0
_WAKING_EVENTS = (
    SpawnRequested,
    AgentResumed,
    AgentSuspended,
    AgentRestarted,
    TerminationRequested,
    AgentFailed,
)


class Worker(Protocol):
    """Who gives a ready process its work; the executor."""

    async def attach(self, agent_id: str, process: AgentProcess) -> None:
        """The process is ready."""

    async def detach(self, agent_id: str) -> None:
        """The process is to be stopped, or gone; what the agent waits for on the node's side may go on."""


@dataclass(slots=True)
class _Keeper:
    correlation_id: str
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    process: AgentProcess | None = None
    timer_attempt: tuple[int, int] | None = None


class Lifecycle:
    """One per node."""

    def __init__(
        self,
        bus: Bus,
        reader: EventReader,
        agents: Repository[AgentState],
        processes: Processes,
        worker: Worker,
        node_id: str,
        keep_files_seconds: float,
        server_logs: Path,
    ) -> None:
        """The files of agents that have ended, and what is in `server_logs`, are kept so long after they were last
        written to."""
        self._bus = bus
        self._listener = reader.listener("lifecycle", _WAKING_EVENTS, self._heard)
        self._agents = agents
        self._processes = processes
        self._worker = worker
        self._node_id = node_id
        self._keep_files_seconds = keep_files_seconds
        self._server_logs = server_logs
        self._keepers: dict[str, _Keeper] = {}
        self._tasks: asyncio.TaskGroup | None = None

    @property
    def starting(self) -> int:
        """How many processes of agents are asked for and not ready yet."""
        return self._processes.starting

    async def run(self, agents_to_recover: list[str], ready: Callable[[], None]) -> None:
        """Recover the agents that this node kept before, then keep agents until cancelled; processes end with it."""
        try:
            async with asyncio.TaskGroup() as tasks:
                self._tasks = tasks
                for agent_id in agents_to_recover:
                    tasks.create_task(contained(partial(self._recover, agent_id), "recovering an agent", agent_id))
                tasks.create_task(contained(self._keep_removing_files, "removing files", self._node_id))
                await self._listener.listen(ready)
        finally:
            self._tasks = None
            await self._stop_all()

    async def _keep_removing_files(self) -> None:
        """At the start and every hour: so it goes on over restarts, and counts the time that no node ran."""
        while True:
            await self.remove_old_files(self._keep_files_seconds)
            await asyncio.sleep(_FILES_SECONDS)

    async def remove_old_files(self, older_than_seconds: float) -> None:
        """Delete what is left here of agents that have ended, and logs of servers, if nothing was written to it for so
        long."""
        moment = time.time() - older_than_seconds
        await asyncio.to_thread(remove_old_logs, self._server_logs, moment)
        for agent_id in await self._processes.unused_since(moment):
            remove = partial(self._remove_files_if_ended, agent_id)
            await contained(remove, "removing files", agent_id, again=False)

    async def _remove_files_if_ended(self, agent_id: str) -> None:
        state = (await self._agents.load(agent_id)).state
        if state.has_ended or not state.exists:
            await self._processes.remove(agent_id)

    def _heard(self, recorded: RecordedEvent, recorded_here: bool) -> None:
        self._wake(recorded.aggregate.id, recorded.metadata.correlation_id)

    def _wake(self, agent_id: str, correlation_id: str) -> None:
        if self._tasks is None:
            return
        keeper = self._keepers.get(agent_id)
        if keeper is None:
            keeper = self._keepers[agent_id] = _Keeper(correlation_id=correlation_id)
            self._tasks.create_task(self._keep(agent_id, keeper))
        keeper.correlation_id = correlation_id
        keeper.wake.set()

    async def _recover(self, agent_id: str) -> None:
        await self._recover_from(agent_id, self._node_id, f"node {self._node_id} began anew", uuid.uuid4().hex)

    async def take_over(self, agent_id: str, lost_node_id: str) -> None:
        """Do for an agent what the node it was on would have to do, which is gone."""
        correlation_id = uuid.uuid4().hex
        await self._recover_from(agent_id, lost_node_id, f"node {lost_node_id} is lost", correlation_id)
        loaded = await self._agents.load(agent_id)
        if loaded.state.node_id == lost_node_id and loaded.state.is_to_end:
            await self._report_terminated(agent_id, correlation_id, loaded)

    async def _recover_from(self, agent_id: str, lost_node_id: str, cause: str, correlation_id: str) -> None:
        command = RecoverProcess(lost_node_id=lost_node_id, cause=cause)
        await self._agents.record(agent_id, command, correlation_id)
        self._wake(agent_id, correlation_id)

    async def _keep(self, agent_id: str, keeper: _Keeper) -> None:
        """Until the agent needs no keeper, or nobody can say what it should have: then it has no process either."""
        if await contained(partial(self._keep_on, agent_id, keeper), "keeping an agent", agent_id):
            return
        if keeper.process is not None:
            await self._worker.detach(agent_id)
            await keeper.process.stop(0)
        self._keepers.pop(agent_id, None)

    async def _keep_on(self, agent_id: str, keeper: _Keeper) -> None:
        """Until the agent needs no keeper. One that is cancelled leaves its process to `_stop_all`."""
        while True:
            keeper.wake.clear()
            settled = await self._reconcile(agent_id, keeper, await self._agents.load(agent_id))
            if settled and keeper.process is None and not keeper.wake.is_set():
                del self._keepers[agent_id]
                return
            if settled:
                await self._wait(keeper)

    async def _wait(self, keeper: _Keeper) -> None:
        """Until something has happened to the agent, or to its process."""
        process = keeper.process
        if process is None:
            return
        woken = asyncio.create_task(keeper.wake.wait())
        ended = asyncio.create_task(process.ended())
        try:
            await asyncio.wait((woken, ended), return_when=asyncio.FIRST_COMPLETED)
        finally:
            woken.cancel()
            ended.cancel()

    async def _reconcile(self, agent_id: str, keeper: _Keeper, loaded: Loaded[AgentState]) -> bool:
        """Take one step towards what is wanted; whether there is nothing left to do for now."""
        state, process = loaded.state, keeper.process
        if process is not None and process.has_ended:
            await self._after_exit(agent_id, keeper, process, state)
            return False
        mine = state.node_id == self._node_id
        wanted = mine and state.wants_process and state.is_live
        if process is not None and not (wanted and process.incarnation == state.incarnation):
            await self._stop(agent_id, keeper, process, state)
            return False
        if wanted and process is None:
            await self._start(agent_id, keeper, state)
            return False
        if mine and state.is_to_end:
            await self._report_terminated(agent_id, keeper.correlation_id, loaded)
            return False
        if mine and state.restart_pending:
            await self._set_restart_timer(agent_id, keeper, state)
        elif mine and state.restart_attempt and not wanted:
            await cancel_timer(self._bus, AggregateId("agent", agent_id), RestartDue.verb)
        return True

    async def _start(self, agent_id: str, keeper: _Keeper, state: AgentState) -> None:
        incarnation = state.incarnation
        try:
            process = await self._processes.start(agent_id, incarnation, state.specification)
        except Exception as error:
            if isinstance(error, Failure):
                failure = error
            else:
                _log.exception("an agent's process cannot be started", agent_id=agent_id)
                failure = Failure(ErrorCode.SPAWN_FAILED, f"the node failed to start its process: {error!r}")
            await self._agents.record(
                agent_id,
                ReportSpawnFailed(
                    incarnation=incarnation,
                    code=failure.code.value,
                    message=failure.message,
                    permanent=isinstance(failure, PermanentFailure),
                ),
                keeper.correlation_id,
            )
            return
        keeper.process = process
        await self._worker.attach(agent_id, process)
        await self._agents.record(
            agent_id,
            AgentSpawned(
                agent_id=agent_id,
                session_id=uuid.uuid4().hex,
                node_id=self._node_id,
                sandbox_type=process.sandbox_type,
                trust_level=state.specification.trust_level.value,
                resource_limits=state.specification.resource_limits,
                source="cold",
                spawn_seconds=process.spawn_seconds,
                incarnation=incarnation,
                pid=process.pid,
            ),
            keeper.correlation_id,
        )

    async def _stop(self, agent_id: str, keeper: _Keeper, process: AgentProcess, state: AgentState) -> None:
        await self._worker.detach(agent_id)
        has_time = state.node_id == self._node_id and not state.termination_forced
        grace = state.specification.lifecycle.graceful_shutdown_seconds if has_time else 0
        forced = asyncio.create_task(self._kill_if_forced(agent_id, keeper, process))
        try:
            usage = await process.stop(grace)
        finally:
            forced.cancel()
        self._processes.note_usage(agent_id, usage)
        keeper.process = None

    async def _kill_if_forced(self, agent_id: str, keeper: _Keeper, process: AgentProcess) -> None:
        """What it is given time for may be cut short; the news that woke this is looked at again afterwards."""
        while not (await self._agents.load(agent_id)).state.termination_forced:
            keeper.wake.clear()
            await keeper.wake.wait()
        process.kill()

    async def _after_exit(self, agent_id: str, keeper: _Keeper, process: AgentProcess, state: AgentState) -> None:
        await self._worker.detach(agent_id)
        self._processes.note_usage(agent_id, await process.stop(0))
        keeper.process = None
        _log.info("an agent's process ended", agent_id=agent_id, cause=process.cause_of_end)
        await self._agents.record(
            agent_id,
            ReportExit(
                incarnation=process.incarnation,
                cause=process.cause_of_end,
                usage=self._processes.take_usage(agent_id, state.usage),
                ended_with=process.ended_with,
                exceeded=process.exceeded,
            ),
            keeper.correlation_id,
        )

    async def _report_terminated(self, agent_id: str, correlation_id: str, loaded: Loaded[AgentState]) -> None:
        created_at = loaded.created_at or datetime.now(UTC)
        await self._agents.record(
            agent_id,
            AgentTerminated(
                session_id=loaded.state.session_id,
                reason=loaded.state.terminating or "",
                resource_usage=self._processes.take_usage(agent_id, loaded.state.usage),
                duration_seconds=(datetime.now(UTC) - created_at).total_seconds(),
            ),
            correlation_id,
        )
        await self._processes.remove_workspace(agent_id)

    async def _set_restart_timer(self, agent_id: str, keeper: _Keeper, state: AgentState) -> None:
        timer = (state.incarnation, state.restart_attempt)
        if keeper.timer_attempt == timer:
            return
        delay = state.specification.lifecycle.delay_before(state.restart_attempt)
        await set_timer(
            self._bus,
            AggregateId("agent", agent_id),
            RestartDue.verb,
            due=datetime.now(UTC) + timedelta(seconds=delay),
            verb=RestartDue.verb,
            body=msgspec.json.encode({"attempt": state.restart_attempt, "wait": "accepted"}),
            command_id=uuid.uuid4().hex,
        )
        keeper.timer_attempt = timer
        if self._tasks is not None:
            restart = partial(self._restart_in, delay, agent_id, timer, keeper.correlation_id)
            self._tasks.create_task(contained(restart, "restarting an agent", agent_id))

    async def _restart_in(self, delay: float, agent_id: str, timer: tuple[int, int], correlation_id: str) -> None:
        """The timer is for when this node is gone by then, and comes up to a second late; so it is not waited for."""
        incarnation, attempt = timer
        await asyncio.sleep(delay)
        if (await self._agents.load(agent_id)).state.incarnation == incarnation:
            await self._agents.record(agent_id, RestartDue(attempt=attempt), correlation_id)

    async def _stop_all(self) -> None:
        processes = [keeper.process for keeper in self._keepers.values()]
        self._keepers.clear()
        await asyncio.gather(*(process.stop(_STOP_SECONDS) for process in processes if process is not None))
