"""The Python client: everything the wire can do, typed, for programs and for the command line.

Commands are stored before anything happens, so a client waits for a node that is down and its commands are not lost;
queries are answered by a running node. Events, live views, streamed output and dead letters are read from JetStream.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct

from l02.bus.background.cancelling import end
from l02.bus.commands import dead_letters
from l02.bus.commands.dead_letters import DeadLetter
from l02.bus.commands.ids import bound_id
from l02.bus.commands.outcomes import Outcome
from l02.bus.objects.store import inline
from l02.bus.wire.codec import RecordedEvent, SetAside
from l02.bus.wire.subjects import AggregateId, CommandAddress
from l02.client.asking import Asking, encode
from l02.client.budgets import BudgetVerbs
from l02.client.discovery import connected, reaching
from l02.client.event_log import read_log, readable
from l02.client.limits import LimitVerbs
from l02.client.live_views import Live, watch_agents, watch_live
from l02.client.specification_file import Specification, as_specification, id_for
from l02.client.token_stream import read_tokens
from l02.domain.agent.state import NewestState, Status
from l02.domain.errors import ErrorCode, Failure
from l02.domain.identifiers import require_id
from l02.logs import log_to_standard_error_by_default
from l02.projections.folds.agents import AgentView
from l02.projections.folds.checkpoints import CheckpointView
from l02.projections.folds.executions import ExecutionState, ExecutionView
from l02.projections.folds.nodes import NodeView

Wait = Literal["complete", "accepted"]
Agents = list[AgentView]
Checkpoints = list[CheckpointView]
Executions = list[ExecutionView]
Nodes = list[NodeView]

PAGE = 500


class SpawnResult(Struct, frozen=True, kw_only=True):
    """The new agent. With `wait="accepted"` only its id is known; `spawn_seconds` is the time until it was ready."""

    agent_id: str
    session_id: str | None = None
    node_id: str | None = None
    sandbox_type: str | None = None
    spawn_seconds: float | None = None


class ExecutionResult(Struct, frozen=True, kw_only=True):
    """What became of a piece of work. With `wait="accepted"` there is no output yet, and `output` is None."""

    execution_id: str
    output: Any = None


class Client(BudgetVerbs, LimitVerbs, Asking):
    """A connection to a running system. Every verb raises Failure when it is refused or its effect failed.

    `command_id` (made up if left out) makes a command safe to send again: the same id with the same content is one
    command, for as long as the agent is known.
    """

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, nats_url: str | None = None, data_dir: str | Path | None = None, *, actor: str | None = None
    ) -> AsyncIterator[Client]:
        """A client for as long as the `async with` block runs.

        The server is `nats_url`, or that of the node that runs in `data_dir`; by default `L02_NATS_URL`, then the node
        of the default data directory. `actor` stands in the events as who asked. Raises NodeUnreachable.
        """
        log_to_standard_error_by_default()
        async with connected("l02 client", nats_url, data_dir) as bus:
            yield cls(bus, actor)

    async def spawn(
        self,
        spec: Specification,
        id: str | None = None,
        *,
        state: dict[str, Any] | None = None,
        wait: Wait = "complete",
        command_id: str | None = None,
    ) -> SpawnResult:
        """Make an agent of a specification or its file, and wait until it runs.

        Without an `id` it gets its name and six random hex digits. `state` is what its `ctx.state` begins with.
        """
        specification = await as_specification(spec)
        agent_id = id if id is not None else id_for(specification.name)
        given = {} if state is None else {"state": state}
        outcome = await self._send(agent_id, "spawn", {"spec": specification, "wait": wait} | given, command_id)
        return msgspec.convert({"agent_id": agent_id, **(outcome.result or {})}, SpawnResult)

    async def execute(
        self, id: str, input: Any = None, *, wait: Wait = "complete", command_id: str | None = None
    ) -> ExecutionResult:
        """Give an agent a piece of work (any JSON value) and wait for its output."""
        outcome = await self._send(id, "execute", {"input": input, "wait": wait}, command_id)
        return await self._execution_result(outcome)

    async def stream(
        self, id: str, input: Any = None, *, command_id: str | None = None
    ) -> AsyncGenerator[str | ExecutionResult, None]:
        """Give an agent a piece of work: what it streams, piece by piece as text, and last its ExecutionResult.

        If pieces are lost (they are kept in memory only), the text ends before the first of them; the result is whole.
        One that is `TakenBack`, an empty text, says that pieces before it do not count: a model is asked again.
        """
        address = CommandAddress(AggregateId("agent", require_id(id, "id")), "execute")
        command_id = command_id or bound_id(address, encode({"input": input}))
        # The execution has the command's id, so its stream is known before there is an execution.
        outcome = asyncio.create_task(self._send(id, "execute", {"input": input}, command_id))
        try:
            async with aclosing(self.tokens(id, command_id, ended=outcome)) as tokens:
                try:
                    async for delta in tokens:
                        yield delta
                except Failure as failure:
                    if failure.code is not ErrorCode.STREAMING_ERROR:
                        raise
            yield await self._execution_result(await outcome)
        finally:
            await end(outcome)

    def tokens(
        self, id: str, execution_id: str, start: int = 0, *, ended: asyncio.Future[Any] | None = None
    ) -> AsyncGenerator[str, None]:
        """What an execution streams, from piece number `start` on, however late one asks within ten minutes.

        As of `stream`, one may be `TakenBack`. It is over when the execution says so, or with the future `ended`.
        """
        execution_id = require_id(execution_id, "execution_id")
        return read_tokens(self._bus, require_id(id, "id"), execution_id, start=start, ended=ended)

    async def signal(self, id: str, name: str, payload: Any = True, *, command_id: str | None = None) -> Outcome:
        """Tell an agent something it waits for, now or later."""
        return await self._send(id, "signal", {"name": name, "payload": payload}, command_id)

    async def suspend(
        self, id: str, reason: str = "user_request", *, checkpoint: bool = True, command_id: str | None = None
    ) -> Outcome:
        """Take an agent's process away and keep all else, by default in a checkpoint too."""
        return await self._send(id, "suspend", {"reason": reason, "checkpoint": checkpoint}, command_id)

    async def resume(self, id: str, *, checkpoint_id: str | None = None, command_id: str | None = None) -> Outcome:
        """Give a suspended agent a process again: as it is, or brought back to a checkpoint."""
        return await self._send(id, "resume", {"checkpoint_id": checkpoint_id}, command_id)

    async def assume(
        self,
        id: str,
        assume: Literal["done", "not-done"],
        *,
        execution_id: str | None = None,
        result: Any = None,
        wait: Wait = "complete",
        command_id: str | None = None,
    ) -> ExecutionResult:
        """Let held work go on, and wait for its output. It is held because a tool was under way when its process or
        node died: it took effect (`done`, with its `result`), or it did not and is called again.
        """
        fields = {"assume": assume, "execution_id": execution_id, "result": result, "wait": wait}
        return await self._execution_result(await self._send(id, "resume", fields, command_id))

    async def checkpoint(self, id: str, label: str | None = None, *, command_id: str | None = None) -> str:
        """Store a checkpoint of an agent; its id. If nothing has changed since the newest one, that one's."""
        outcome = await self._send(id, "checkpoint", {"label": label}, command_id)
        return str((outcome.result or {})["checkpoint_id"])

    async def restore(self, id: str, checkpoint_id: str, *, command_id: str | None = None) -> Outcome:
        """Bring an agent's durable state back to a checkpoint; work under way ends, its past stays on record."""
        return await self._send(id, "restore", {"checkpoint_id": checkpoint_id}, command_id)

    async def fork(
        self,
        from_id: str,
        id: str | None = None,
        *,
        at: int | None = None,
        version: int | None = None,
        checkpoint_id: str | None = None,
        wait: Wait = "complete",
        command_id: str | None = None,
    ) -> SpawnResult:
        """Make a new agent of another one's past, up to the event with stream sequence `at`, up to its `version`, up to
        a checkpoint, or up to now; and wait until it runs. Without an `id` it gets the other's and six random digits.
        """
        agent_id = id if id is not None else id_for(require_id(from_id, "from_id"))
        point = {"at": at, "version": version, "checkpoint_id": checkpoint_id}
        outcome = await self._send(agent_id, "fork", {"from_agent_id": from_id, **point, "wait": wait}, command_id)
        return msgspec.convert({"agent_id": agent_id, **(outcome.result or {})}, SpawnResult)

    async def checkpoints(
        self, id: str, *, every: bool = False, limit: int = PAGE, after: str | None = None
    ) -> Checkpoints:
        """At most `limit` checkpoints of an agent that are stored, or `every` one there ever was; the latest first."""
        wanted = {"id": require_id(id, "id"), "limit": limit, "after": after}
        return await self._query("agent.checkpoints", wanted | ({"state": None} if every else {}), Checkpoints)

    async def terminate(
        self,
        id: str,
        reason: str = "user_request",
        *,
        force: bool = False,
        wait: Wait = "complete",
        command_id: str | None = None,
    ) -> Outcome:
        """End an agent for good, and wait until its process is gone; with `force` it is killed at once."""
        return await self._send(id, "terminate", {"reason": reason, "force": force, "wait": wait}, command_id)

    async def get(self, id: str) -> AgentView:
        """An agent as it is now. Raises Failure E2111 if there is none, NodeUnreachable if no node answers."""
        return await self._query("agent.get", {"id": require_id(id, "id")}, AgentView)

    async def list(
        self,
        state: Status | str | None = None,
        fleet: str | None = None,
        *,
        limit: int = PAGE,
        after: str | None = None,
    ) -> Agents:
        """At most `limit` agents with ids above `after`, in the order of their ids."""
        wanted = {"state": state, "fleet": fleet, "limit": limit, "after": after}
        return await self._query("agent.list", {name: value for name, value in wanted.items() if value}, Agents)

    async def state(self, id: str) -> NewestState:
        """An agent's durable state, values that it only refers to in it whole; bytes are `{"$bytes": base64}`.

        Raises Failure E2111 if there is no such agent, E2033 if a value cannot be had any more.
        """
        found = await self._query("agent.state", {"id": require_id(id, "id")}, NewestState)
        whole = {key: await inline(self._bus, value) for key, value in found.state.items()}
        return msgspec.structs.replace(found, state=whole)

    async def executions(
        self,
        id: str | None = None,
        *,
        state: ExecutionState | str | None = None,
        limit: int = PAGE,
        after: str | None = None,
    ) -> Executions:
        """At most `limit` executions of an agent, or of all, the latest first; what goes in and comes out may be by
        reference. `after` is the last one of the page before: its id, or `<agent_id>/<execution_id>` if of all.
        """
        wanted = {"id": None if id is None else require_id(id, "id"), "state": state, "limit": limit, "after": after}
        return await self._query("agent.executions", wanted, Executions)

    async def nodes(self) -> Nodes:
        """The nodes that have ever joined, each with its state."""
        return await self._query("node.list", {}, Nodes)

    def events(
        self,
        id: str | None = None,
        type: str | None = None,
        since: int | datetime | None = None,
        *,
        follow: bool = False,
        unreadable: Callable[[SetAside], None] = lambda aside: None,
    ) -> AsyncGenerator[RecordedEvent, None]:
        """Events in their order: of one agent, of one type (`agent.execution.*` for a family), or all.

        `since` is the first sequence number or the earliest time. With `follow` it goes on for ever. What stands among
        the events and is none for this version is left out, and told to `unreadable`.
        """
        return readable(read_log(self._bus, id, type, since, follow=follow), unreadable)

    def watch(self, id: str | None = None) -> AsyncGenerator[AgentView, None]:
        """The state of one agent or of all as it is now, and then each time it has changed, for ever."""
        return watch_agents(self._bus, id)

    def watch_live(self) -> AsyncGenerator[Live, None]:
        """All agents that have not ended and what their processes take: at once, then again whenever that changes."""
        return watch_live(self._bus)

    async def dead_letters(self) -> AsyncGenerator[DeadLetter, None]:
        """The messages that could not be handled, oldest first."""
        with reaching():
            async for letter in dead_letters.dead_letters(self._bus):
                yield letter

    async def dead_letter(self, sequence: int) -> DeadLetter:
        """One of them, by its number. Raises Failure E2111 if there is none."""
        with reaching():
            letter = await dead_letters.dead_letter_at(self._bus, sequence)
        if letter is None:
            raise Failure(ErrorCode.AGGREGATE_NOT_FOUND, f"there is no dead letter {sequence}; see `l02 dead list`")
        return letter

    async def retry_dead_letter(self, sequence: int) -> DeadLetter:
        """Give one of them again to who could not handle it, and take it off the list; see `dead_letters.resend`.

        Raises Failure: E2111 if there is none, E2115, E2117.
        """
        letter = await self.dead_letter(sequence)
        await dead_letters.resend(self._bus, letter)
        return letter

    async def _execution_result(self, outcome: Outcome) -> ExecutionResult:
        result = msgspec.convert(outcome.result, ExecutionResult)
        return msgspec.structs.replace(result, output=await inline(self._bus, result.output))
