"""An agent without a process: suspended on request or for idleness, and woken by what gives it work."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from msgspec import Meta
from msgspec.structs import replace

from l02.domain.agent.messages import AgentCommand, AgentEvent, NodeCommand, refuse
from l02.domain.agent.saved.checkpoints import CheckpointRequested
from l02.domain.agent.state import BUDGET, IDLE, AgentState, Status
from l02.domain.kernel.message import Context


class Suspend(AgentCommand, frozen=True, kw_only=True):
    """Take the agent's process away and keep all else; unless `checkpoint` is false, in a checkpoint too."""

    verb: ClassVar[str] = "suspend"
    reason: Annotated[str, Meta(max_length=1000)] = "user_request"
    checkpoint: bool = True

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """One that would go on by itself stays away from now on."""
        if not agent.is_live:
            refuse(agent, self.verb, "it has no process to take away")
        if agent.is_suspended and not (agent.suspend_reason in (IDLE, BUDGET) and self.reason not in (IDLE, BUDGET)):
            return []
        if not self.checkpoint:
            return [AgentSuspended(session_id=agent.session_id, reason=self.reason)]
        return suspended(agent, self.reason, context.command_id, context.node_id)


class SuspendIdle(NodeCommand, frozen=True, kw_only=True):
    """Nothing has been asked of the agent for long, and it was at `revision` all the while."""

    revision: int
    checkpoint_id: str

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """Unless something has changed meanwhile."""
        is_idle = agent.status is Status.RUNNING and not agent.executions and agent.restoring is None
        is_current = agent.revision == self.revision and agent.node_id == context.node_id
        if not is_idle or not agent.is_live or not is_current:
            return []
        return suspended(agent, IDLE, self.checkpoint_id, context.node_id)


class AgentSuspended(AgentEvent, frozen=True, kw_only=True):
    """The agent keeps its past and its state, but no process. If its `reason` is `idle`, the next work resumes it; if
    `budget`, it goes on by itself when a limit allows it.

    `checkpoint_id` is the checkpoint that holds its state, or will when it is stored.
    """

    type: ClassVar[str] = "agent.suspended"
    session_id: str | None
    reason: str
    checkpoint_id: str | None = None

    def evolve(self, agent: AgentState, /) -> AgentState:
        """It has no process, and waits for none."""
        return replace(
            agent,
            status=Status.SUSPENDED,
            process_ready=False,
            restart_pending=False,
            suspend_reason=self.reason,
        )

    def outcome(self) -> dict[str, Any]:
        """Which checkpoint holds it."""
        return _named(self.checkpoint_id)


class AgentResumed(AgentEvent, frozen=True, kw_only=True):
    """A suspended agent shall have a process again, on `node_id`, and goes on from `checkpoint_id` if there is one."""

    type: ClassVar[str] = "agent.resumed"
    session_id: str | None
    node_id: str
    incarnation: int
    checkpoint_id: str | None = None

    def evolve(self, agent: AgentState, /) -> AgentState:
        """It is to have a process."""
        return replace(
            agent.served(self.node_id, self.incarnation),
            status=Status.PENDING,
            restart_attempt=0,
            suspend_reason=None,
        )

    def outcome(self) -> dict[str, Any]:
        """Which checkpoint it goes on from."""
        return _named(self.checkpoint_id)


def _named(checkpoint_id: str | None) -> dict[str, Any]:
    return {} if checkpoint_id is None else {"checkpoint_id": checkpoint_id}


def suspended(agent: AgentState, reason: str, checkpoint_id: str, node_id: str) -> list[AgentEvent]:
    """The process goes at once; its state is on record, and a checkpoint of it follows unless there is one."""
    unchanged = agent.unchanged_since
    if unchanged is not None:
        return [AgentSuspended(session_id=agent.session_id, reason=reason, checkpoint_id=unchanged.checkpoint_id)]
    return [
        CheckpointRequested(checkpoint_id=checkpoint_id, checkpoint_type="pre_suspend", node_id=node_id),
        AgentSuspended(session_id=agent.session_id, reason=reason, checkpoint_id=checkpoint_id),
    ]


def resumed(agent: AgentState, node_id: str, checkpoint_id: str | None = None) -> AgentResumed:
    """The suspended agent shall have a process again; `checkpoint_id` if it was brought back to that."""
    unchanged = agent.unchanged_since
    return AgentResumed(
        session_id=agent.session_id,
        node_id=node_id,
        incarnation=agent.incarnation + 1,
        checkpoint_id=checkpoint_id or (unchanged.checkpoint_id if unchanged is not None else None),
    )


def woken(agent: AgentState, node_id: str) -> list[AgentEvent]:
    """One that was suspended for idleness is resumed by what gives it work."""
    return [resumed(agent, node_id)] if agent.sleeps else []
