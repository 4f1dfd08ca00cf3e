"""The agent executor of a node: one runner per agent, one execution at a time, in the order of their acceptance."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from l02.bus.commands.leases import Leases
from l02.bus.commands.react import EventReader
from l02.bus.connection.bus import Bus
from l02.bus.log.repository import Repository
from l02.bus.wire.codec import RecordedEvent
from l02.domain.agent.life.restarts import AgentFailed
from l02.domain.agent.life.resuming import ExecutionReopened
from l02.domain.agent.life.spawning import SpawnRequested
from l02.domain.agent.life.suspension import AgentResumed, AgentSuspended
from l02.domain.agent.life.termination import AgentTerminated
from l02.domain.agent.saved.checkpoints import CheckpointCreated, CheckpointFailed
from l02.domain.agent.saved.restoring import CheckpointRestored
from l02.domain.agent.state import BUDGET, AgentState
from l02.domain.agent.work.approvals import ApprovalAnswered
from l02.domain.agent.work.executions import ExecutionFailed, ExecutionStarted
from l02.domain.agent.work.signals import SignalReceived
from l02.domain.errors import ErrorCode
from l02.handlers.executor.deadlines import set_deadlines
from l02.handlers.executor.models.ports import Budgets, Limits, Models
from l02.handlers.executor.runner import AgentRunner
from l02.handlers.executor.tools.checks import SchemaChecks
from l02.handlers.executor.work import Surroundings
from l02.handlers.sandbox.processes import AgentProcess
from l02.handlers.tool_servers import ToolServers

_WAKING_EVENTS = (
    ExecutionStarted,
    ExecutionReopened,
    ExecutionFailed,
    SignalReceived,
    ApprovalAnswered,
    CheckpointCreated,
    CheckpointFailed,
    CheckpointRestored,
    AgentTerminated,
    AgentFailed,
    SpawnRequested,
    AgentResumed,
    AgentSuspended,
)


class Executor:
    """One per node. The lifecycle manager attaches processes to it when they are ready."""

    def __init__(
        self,
        bus: Bus,
        reader: EventReader,
        agents: Repository[AgentState],
        tool_servers: ToolServers,
        leases: Leases,
        models: Models,
        budgets: Budgets,
        limits: Limits,
    ) -> None:
        self._bus = bus
        self._agents = agents
        self._checks = SchemaChecks()
        self._node_id = leases.node_id
        self._surroundings = Surroundings(
            bus, agents, tool_servers, self._checks, leases.node_id, leases, models, budgets, limits
        )
        self._runners: dict[str, AgentRunner] = {}
        self._listener = reader.listener("executor", _WAKING_EVENTS, self._heard)
        agents.before_storing(partial(set_deadlines, bus))

    async def attach(self, agent_id: str, process: AgentProcess) -> None:
        """Give the process the agent's open executions, one after another."""
        runner = self._runners.get(agent_id)
        if runner is None:
            runner = self._runners[agent_id] = AgentRunner(self._surroundings, agent_id)
        runner.attach(process)

    async def detach(self, agent_id: str) -> None:
        """Leave the agent's process alone; calls that are under way on the node's side go on."""
        if agent_id in self._runners:
            await self._runners[agent_id].detach()

    async def run(self, ready: Callable[[], None]) -> None:
        """Follow the events that bring work from other nodes, until cancelled; then end all that is under way."""

        try:
            await self._listener.listen(ready)
        finally:
            await asyncio.gather(*(runner.close() for runner in self._runners.values()))
            await self._checks.close()

    def _heard(self, recorded: RecordedEvent, recorded_here: bool) -> None:
        runner = self._runners.get(recorded.aggregate.id)
        if runner is None:
            return
        match recorded.event:
            case AgentTerminated() | AgentFailed():
                self._end(recorded.aggregate.id)
            case SpawnRequested(node_id=node_id) | AgentResumed(node_id=node_id):
                if node_id != self._node_id:
                    self._end(recorded.aggregate.id)
                else:
                    runner.tell(recorded.sequence)
            case AgentSuspended(reason=reason):
                if reason != BUDGET:  # then what is under way has been reserved, and comes to its end
                    runner.rest()
            case ExecutionFailed(execution_id=execution_id, code=ErrorCode.EXECUTION_TIMEOUT.value):
                runner.ended(execution_id, recorded.sequence)
            case SignalReceived() | ApprovalAnswered():
                runner.tell(recorded.sequence)
            case _:
                runner.wake(recorded.sequence)

    def _end(self, agent_id: str) -> None:
        """The agent is gone, or another node has it: what is under way for it here is of no use."""
        self._runners.pop(agent_id).end()
