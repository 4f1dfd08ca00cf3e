"""Processes that end by themselves or do not come up: started anew after a while, until the agent is given up."""

from __future__ import annotations

from typing import ClassVar

from msgspec.structs import replace

from l02.domain.agent.life.spawning import SpawnFailed, another_process
from l02.domain.agent.messages import AgentEvent, AgentTimerCommand, NodeCommand
from l02.domain.agent.resources import ResourceExceeded
from l02.domain.agent.saved.restoring import nothing_pending, taken_over
from l02.domain.agent.state import AgentState, ResourceUsage, Status
from l02.domain.agent.work.executions import fail_execution_at_work, fail_open_executions
from l02.domain.errors import ErrorCode
from l02.domain.kernel.message import Completing, Context, Refused, command_ids


class ReportSpawnFailed(NodeCommand, frozen=True, kw_only=True):
    """No process of this incarnation came up. `permanent` when trying again cannot help."""

    incarnation: int
    code: str
    message: str
    permanent: bool

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """Tried again by the restart policy, or given up."""
        if not agent.is_served_by(self.incarnation) or not agent.is_live:
            return []
        failed = SpawnFailed(code=self.code, message=self.message, attempt=agent.restart_attempt + 1)
        if self.permanent:
            return [failed, *_given_up(agent, self.code, self.message, agent.usage)]
        return [failed, *_restarted_or_given_up(agent, f"{self.code}: {self.message}", agent.usage)]


class ReportExit(NodeCommand, frozen=True, kw_only=True):
    """The process of this incarnation ended; `ended_with` is the execution that the node ended it with.

    `exceeded` is the limit that it was ended for.
    """

    incarnation: int
    cause: str
    usage: ResourceUsage
    ended_with: str | None = None
    exceeded: ResourceExceeded | None = None

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """It counts towards `max_restart_count` if the same may happen again at once.

        So it counts when the process failed by itself, or when the work that the node ended it with is still open, and
        is begun anew. Work that is over cannot come again, whatever its code; its process is replaced at once, as often
        as may be. What has filled its disk would find it full again, and fails.
        """
        if not agent.is_served_by(self.incarnation) or not agent.is_live:
            return []
        usage = agent.used(self.usage)
        exceeded: list[AgentEvent] = [] if self.exceeded is None else [self.exceeded]
        failed: list[AgentEvent] = []
        if self.exceeded is not None and self.exceeded.resource_type == "disk":
            failed = fail_execution_at_work(agent, self.exceeded.code, self.cause)
        has_work = self.ended_with is None or self.ended_with in agent.executions
        if has_work and not failed:
            return [*exceeded, *_restarted_or_given_up(agent, self.cause, usage)]
        again = _restarted_at_once(agent, agent.node_id or "", self.cause, usage, "its work ended")
        return [*exceeded, *failed, *again]


class RecoverProcess(NodeCommand, frozen=True, kw_only=True):
    """The node does from now on what `lost_node_id` had to do for the agent, and no fault of the agent's it is.

    That is itself when it has begun anew.
    """

    lost_node_id: str
    cause: str

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """Another process if it should have one, and what was asked of the lost node."""
        node_id = context.node_id
        asked_anew = taken_over(agent, node_id, self.lost_node_id)
        # A node that has begun anew sets the timer of a restart that is due; one that takes over does not wait for it.
        wanted = agent.wants_process or (agent.restart_pending and node_id != self.lost_node_id)
        if not wanted or not agent.is_live or agent.node_id != self.lost_node_id:
            return asked_anew
        return [*_restarted_at_once(agent, node_id, self.cause, agent.known_usage, "recovery"), *asked_anew]


class RestartDue(AgentTimerCommand, frozen=True, kw_only=True):
    """The delay of a restart is over. One that comes late or twice is ignored."""

    verb: ClassVar[str] = "restart-due"
    attempt: int

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """Another process, if that restart is still to come."""
        due = agent.restart_pending and self.attempt == agent.restart_attempt
        if not due or not agent.is_live:
            return []
        return [another_process(agent, agent.node_id or context.node_id, "restart policy")]


class AgentRestarted(AgentEvent, frozen=True, kw_only=True):
    """The process ended without being told to; another one is started after `delay_seconds`."""

    type: ClassVar[str] = "agent.restarted"
    attempt: int
    delay_seconds: float
    cause: str
    usage: ResourceUsage = ResourceUsage()

    def evolve(self, agent: AgentState, /) -> AgentState:
        """It waits for another process."""
        return replace(
            agent,
            status=Status.PENDING,
            process_ready=False,
            restart_attempt=self.attempt,
            restart_pending=True,
            usage=self.usage,
        )


class AgentFailed(AgentEvent, Completing, frozen=True, kw_only=True):
    """The runtime has given the agent up."""

    type: ClassVar[str] = "agent.failed"
    code: str
    message: str
    usage: ResourceUsage = ResourceUsage()

    def evolve(self, agent: AgentState, /) -> AgentState:
        """It has ended."""
        return agent.ended(Status.FAILED, self.usage)

    def outcome(self) -> Refused:
        """Why it was given up."""
        return Refused(code=self.code, message=self.message)


def _restarted_or_given_up(agent: AgentState, cause: str, usage: ResourceUsage) -> list[AgentEvent]:
    limits = agent.specification.lifecycle
    attempt = agent.restart_attempt + 1
    if attempt > limits.max_restart_count:
        message = f"gave up after {limits.max_restart_count} restarts; the last cause was: {cause}"
        return _given_up(agent, ErrorCode.RESTART_LIMIT_EXCEEDED.value, message, usage)
    delay = limits.delay_before(attempt)
    return [AgentRestarted(attempt=attempt, delay_seconds=delay, cause=cause, usage=usage)]


def _restarted_at_once(
    agent: AgentState, node_id: str, cause: str, usage: ResourceUsage, requested_by: str
) -> list[AgentEvent]:
    """Another process without delay; the end of this one does not count against the agent."""
    restarted = AgentRestarted(attempt=agent.restart_attempt, delay_seconds=0.0, cause=cause, usage=usage)
    return [restarted, another_process(agent, node_id, requested_by)]


def _given_up(agent: AgentState, code: str, message: str, usage: ResourceUsage) -> list[AgentEvent]:
    return [
        *fail_open_executions(agent, code, message),
        *nothing_pending(agent),
        AgentFailed(
            code=code,
            message=message,
            usage=usage.plus(agent.lost),
            completes=command_ids(agent.spawn_awaited_by),
        ),
    ]
