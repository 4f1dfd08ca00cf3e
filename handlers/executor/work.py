"""What a node knows of an execution beyond its events, from its first process here to its end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import msgspec
from msgspec import Struct

from l02.bus.background.news import News
from l02.bus.commands.leases import Leases
from l02.bus.connection.bus import Bus
from l02.bus.log.repository import Repository
from l02.bus.wire.agent.meter import ContextMeter
from l02.domain.agent.execution import Execution
from l02.domain.agent.state import AgentState
from l02.domain.errors import ErrorCode, Failure
from l02.domain.kernel.message import Report
from l02.handlers.executor.journal.answers import Answers
from l02.handlers.executor.journal.live_calls import LiveCalls
from l02.handlers.executor.journal.records import RecordRefused, Records
from l02.handlers.executor.journal.results import Result
from l02.handlers.executor.loop_share import LoopShare
from l02.handlers.executor.models.memory import CountedInputs
from l02.handlers.executor.models.ports import Budgets, Limits, Models
from l02.handlers.executor.streaming import TokenStream
from l02.handlers.executor.tools.checks import SchemaChecks
from l02.handlers.tool_servers import ToolServers


class Surroundings(Struct, frozen=True):
    """What all executions of a node need of it."""

    bus: Bus
    agents: Repository[AgentState]
    tool_servers: ToolServers
    checks: SchemaChecks
    node_id: str
    leases: Leases
    models: Models
    budgets: Budgets
    limits: Limits
    share: LoopShare = msgspec.field(default_factory=LoopShare)


@dataclass(slots=True)
class Work:
    """One execution of one agent on this node."""

    node: Surroundings
    agent_id: str
    execution_id: str
    news: News
    meter: ContextMeter
    steps_meter: ContextMeter
    """Of the input and the steps alone, of which the agent has counted at least as much: it passes on no more."""
    stream: TokenStream
    records: Records
    counted: CountedInputs
    has_deadline: bool
    live: LiveCalls = field(default_factory=LiveCalls)
    input_tokens: int = 0
    signals_taken: dict[int, str] = field(default_factory=dict)
    """Calls that have taken a signal, which is perhaps not on record yet, and its name."""
    answers: Answers = field(default_factory=lambda: Answers(0, (), ()))
    began: float = field(default_factory=time.monotonic)
    is_resting: bool = False
    """Its agent was suspended: what is cut off now is done again when it goes on."""
    limit: asyncio.Timeout | None = None
    """Of the run that is under way."""
    term: int = field(init=False)
    """That of the node's lease in which the agent was seen to be this node's."""

    def __post_init__(self) -> None:
        self.records.on_stored = self._place
        self.term = self.node.leases.term

    def answer(self, call: int, report: Report, result: Result) -> None:
        """The answer of a call is known: it is recorded, and given without waiting for that."""
        self.records.add(report)
        self.answers.add(call, result)

    async def may_leave(self) -> None:
        """Wait until all is on disk that what leaves now rests on, and the agent is this node's for certain."""
        await self._may_leave(self.records.stored)

    async def may_go_on(self) -> None:
        """The same for more of what has begun to leave: nothing that became known meanwhile is in it."""
        await self._may_leave(None)

    async def _may_leave(self, stored: Callable[[], Awaitable[None]] | None) -> None:
        while True:
            if stored is not None:
                await stored()
            term = await self.node.leases.held()
            if term == self.term:
                return
            state = (await self.node.agents.load(self.agent_id)).state
            if state.node_id != self.node.node_id or self.execution_id not in state.executions:
                raise RecordRefused("the execution is no more this node's")
            self.term = term

    async def state(self) -> AgentState:
        """The agent as it is on record, at least as of the last news. Failure if the execution is over."""
        state = (await self.node.agents.known(self.agent_id, self.news.sequence)).state
        if self.execution_id not in state.executions:
            raise Failure(ErrorCode.INVALID_STATE, f"execution {self.execution_id} is not under way any more")
        return state

    async def settled(self) -> AgentState:
        """The agent as it is on record, with all that this node knows of the execution."""
        while True:
            await self.records.stored()
            state = (await self.node.agents.known(self.agent_id, self.news.sequence)).state
            if self.records.is_stored:
                return state

    async def rest(self) -> None:
        """Cut off what is made again anyway."""
        self.is_resting = True
        await self.live.cancel("model")

    async def close(self) -> None:
        """Stop the calls that are under way, and record no more."""
        await self.live.cancel()
        await self.records.close()

    def _place(self) -> None:
        """Answers whose place depends on the order on record get it."""
        if not self.answers.is_ordered:
            loaded = self.node.agents.in_memory(self.agent_id)
            if loaded is not None and self.execution_id in loaded.state.executions:
                self.answers.place(loaded.state.executions[self.execution_id].journal)


def checkpoints_awaited(state: AgentState, execution: Execution) -> set[int]:
    """The calls of the execution that wait for a checkpoint to be stored."""
    pending = state.pending_checkpoints.values()
    return {item.call for item in pending if item.execution_id == execution.execution_id and item.call is not None}
