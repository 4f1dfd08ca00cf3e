"""An agent's end for good: asked for, and done when its process is gone."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from l02.domain.agent.life.spawning import SpawnFailed
from l02.domain.agent.messages import AgentCommand, AgentEvent, AgentReport, refuse
from l02.domain.agent.saved.restoring import nothing_pending
from l02.domain.agent.state import AgentState, ResourceUsage, Status
from l02.domain.agent.work.executions import fail_open_executions
from l02.domain.errors import ErrorCode
from l02.domain.kernel.message import Completing, Context, command_ids


class Terminate(AgentCommand, frozen=True, kw_only=True):
    """End the agent for good. With `force` its process is killed at once, also while it is given time to end."""

    verb: ClassVar[str] = "terminate"
    reason: Literal["completed", "error", "timeout", "resource_exceeded", "user_request", "drain", "scale_down"] = (
        "user_request"
    )
    force: bool = False

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """Once; and once more if it is to be forced."""
        if agent.status is Status.FAILED:
            refuse(agent, self.verb, "it is already gone")
        is_asked = agent.terminating and (agent.termination_forced or not self.force)
        if agent.status is Status.TERMINATED or is_asked:
            return []
        return [
            TerminationRequested(
                reason=agent.terminating or self.reason,
                requested_by=context.actor,
                awaited_by=self.awaited_by(context),
                force=True if self.force else UNSET,
            )
        ]


class TerminationRequested(AgentEvent, frozen=True, kw_only=True):
    """The agent shall end; it takes no more work."""

    type: ClassVar[str] = "agent.termination.requested"
    schema_version: ClassVar[int] = 2
    reason: str
    requested_by: str
    awaited_by: str | None = None
    force: bool | UnsetType = UNSET
    """True if the process shall be killed at once."""

    def evolve(self, agent: AgentState, /) -> AgentState:
        """Its process is to end."""
        return replace(
            agent,
            terminating=self.reason,
            termination_awaited_by=(*agent.termination_awaited_by, *command_ids(self.awaited_by)),
            termination_forced=agent.termination_forced or self.force is True,
        )

    def owed_to(self) -> str | None:
        """Who waits for the end."""
        return self.awaited_by


class AgentTerminated(AgentReport, Completing, frozen=True, kw_only=True):
    """The agent is gone for good, and so is its process."""

    type: ClassVar[str] = "agent.terminated"
    session_id: str | None
    reason: str
    resource_usage: ResourceUsage
    duration_seconds: float

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """Once, as it was asked for; all that was to be done for it is not."""
        if agent.terminating is None or agent.has_ended:
            return []
        terminated = replace(
            self,
            session_id=agent.session_id,
            reason=agent.terminating,
            resource_usage=agent.used(self.resource_usage).plus(agent.lost),
            completes=agent.termination_awaited_by,
        )
        message = "the agent was terminated before the execution ended"
        return [
            *fail_open_executions(agent, ErrorCode.INVALID_STATE.value, message),
            *_spawn_failed(agent),
            *nothing_pending(agent),
            terminated,
        ]

    def evolve(self, agent: AgentState, /) -> AgentState:
        """It has ended, and whoever asked for that has been told."""
        return replace(agent.ended(Status.TERMINATED, self.resource_usage), termination_awaited_by=())

    def outcome(self) -> dict[str, Any]:
        """What it took in all."""
        return {
            "reason": self.reason,
            "resource_usage": msgspec.to_builtins(self.resource_usage),
            "duration_seconds": self.duration_seconds,
        }


def _spawn_failed(agent: AgentState) -> list[AgentEvent]:
    if agent.spawn_awaited_by is None:
        return []
    return [
        SpawnFailed(
            code=ErrorCode.SPAWN_FAILED.value,
            message="the agent was terminated before it ran",
            attempt=agent.restart_attempt + 1,
            completes=(agent.spawn_awaited_by,),
        )
    ]
