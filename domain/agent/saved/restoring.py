"""Going back: an agent's durable state is again as a checkpoint holds it, and its past stays on record."""

from __future__ import annotations

from typing import Any, ClassVar

from msgspec.structs import replace

from l02.domain.agent.life.spawning import another_process
from l02.domain.agent.life.suspension import resumed
from l02.domain.agent.messages import AgentCommand, AgentEvent, AgentReport, refuse
from l02.domain.agent.saved.checkpoints import asked_again, given_up, moves
from l02.domain.agent.sessions import told_of_checkpoint
from l02.domain.agent.state import AgentState, KeptCheckpoint, PendingRestore
from l02.domain.agent.work.executions import fail_open_executions
from l02.domain.errors import ErrorCode, Failure
from l02.domain.kernel.message import Completing, Context, Refused, command_ids

_ENDED = "the agent ended before it was done"


class Restore(AgentCommand, frozen=True, kw_only=True):
    """Bring the agent's durable state back to a checkpoint. Work under way ends; its past stays on record."""

    verb: ClassVar[str] = "restore"
    checkpoint_id: str

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """Nothing is to be done if it still is as that holds it."""
        if not agent.is_live:
            refuse(agent, self.verb, "fork it instead")
        return brought_back(agent, self.checkpoint_id, self.awaited_by(context), context, resume=False)


class RestoreRequested(AgentEvent, frozen=True, kw_only=True):
    """The agent is to be brought back to a checkpoint, by `node_id`, and then resumed if `resume` says so."""

    type: ClassVar[str] = "agent.restore.requested"
    checkpoint_id: str
    storage_location: str
    sha256: str
    node_id: str
    resume: bool
    requested_by: str
    awaited_by: str | None = None

    def evolve(self, agent: AgentState, /) -> AgentState:
        """It waits to be brought back."""
        restoring = PendingRestore(
            checkpoint_id=self.checkpoint_id, node_id=self.node_id, resume=self.resume, awaited_by=self.awaited_by
        )
        return replace(agent, restoring=restoring)

    def owed_to(self) -> str | None:
        """Who waits for it to be done."""
        return self.awaited_by


class CheckpointRestored(AgentReport, Completing, frozen=True, kw_only=True):
    """The agent's durable state is `state` again, as the checkpoint holds it. What has happened since stays on record.

    Work under way had begun from another state and has failed; signals that wait stay.
    """

    type: ClassVar[str] = "agent.checkpoint.restored"
    checkpoint_id: str
    restore_seconds: float
    state: dict[str, Any]

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """Work under way began from another state, and the process has seen that too."""
        restoring = agent.restoring
        if restoring is None or restoring.checkpoint_id != self.checkpoint_id or not agent.is_live:
            return []
        message = f"the agent was brought back to checkpoint {self.checkpoint_id} meanwhile; send the work again"
        events: list[AgentEvent] = [
            *fail_open_executions(agent, ErrorCode.INVALID_STATE.value, message),
            replace(self, completes=command_ids(restoring.awaited_by)),
        ]
        if not agent.is_suspended and not agent.restart_pending:
            return [*events, another_process(agent, agent.node_id or restoring.node_id, "restore")]
        if restoring.resume and agent.is_suspended:
            return [*events, resumed(agent, restoring.node_id, self.checkpoint_id)]
        return events

    def evolve(self, agent: AgentState, /) -> AgentState:
        """It is as it was, and the session's other side is to hear of it."""
        return replace(
            agent,
            data=self.state,
            held={},
            restoring=None,
            revision=agent.revision + 1,
            session=told_of_checkpoint(agent, "rollback", self.checkpoint_id, None),
        )

    def outcome(self) -> dict[str, Any]:
        """What it was brought back to."""
        return {"checkpoint_id": self.checkpoint_id, "restore_seconds": self.restore_seconds}


class RestoreFailed(AgentReport, Completing, frozen=True, kw_only=True):
    """The agent could not be brought back, and is as it was. The message offers an older checkpoint, if one is good."""

    type: ClassVar[str] = "agent.restore.failed"
    checkpoint_id: str
    code: str
    message: str

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """It stays as it is, and whoever waits is told."""
        if agent.restoring is None or agent.restoring.checkpoint_id != self.checkpoint_id:
            return []
        return [replace(self, completes=command_ids(agent.restoring.awaited_by))]

    def evolve(self, agent: AgentState, /) -> AgentState:
        """Nothing waits to be brought back."""
        return replace(agent, restoring=None)

    def outcome(self) -> Refused:
        """Why it failed."""
        return Refused(code=self.code, message=self.message)


def brought_back(
    agent: AgentState, checkpoint_id: str, awaited_by: str | None, context: Context, *, resume: bool
) -> list[AgentEvent]:
    """What has the agent brought back to a checkpoint; nothing if it still is as that holds it."""
    wanted = _known(agent, checkpoint_id)
    if wanted.revision == agent.revision and agent.restoring is None:
        return []
    return [
        *_failed(agent, "another one was asked for before it was done"),
        _requested(wanted, context.node_id, context.actor, resume=resume, awaited_by=awaited_by),
    ]


def _known(agent: AgentState, checkpoint_id: str) -> KeptCheckpoint:
    found = agent.checkpoints.get(checkpoint_id)
    if found is None:
        raise Failure(
            ErrorCode.RESTORE_FAILED,
            f"the agent has no checkpoint {checkpoint_id[:40]!r}; `l02 checkpoints ID` lists those it has. "
            "What another agent has can only be forked",
            "$.checkpoint_id",
        )
    return found


def _requested(
    kept: KeptCheckpoint, node_id: str, requested_by: str, *, resume: bool, awaited_by: str | None
) -> RestoreRequested:
    return RestoreRequested(
        checkpoint_id=kept.checkpoint_id,
        storage_location=kept.storage_location,
        sha256=kept.sha256,
        node_id=node_id,
        resume=resume,
        requested_by=requested_by,
        awaited_by=awaited_by,
    )


def _failed(agent: AgentState, message: str) -> list[AgentEvent]:
    restoring = agent.restoring
    if restoring is None:
        return []
    return [
        RestoreFailed(
            checkpoint_id=restoring.checkpoint_id,
            code=ErrorCode.RESTORE_FAILED.value,
            message=message,
            completes=command_ids(restoring.awaited_by),
        )
    ]


def taken_over(agent: AgentState, node_id: str, lost_node_id: str | None = None) -> list[AgentEvent]:
    """What the lost node, or any other one, was to store for the agent or to bring it back to, is asked of this."""
    if not agent.is_live:
        return []
    asked = asked_again(agent, node_id, lost_node_id)
    restoring = agent.restoring
    if restoring is None or not moves(restoring.node_id, node_id, lost_node_id):
        return asked
    kept = agent.checkpoints.get(restoring.checkpoint_id)
    if kept is None:
        return [*asked, *_failed(agent, f"checkpoint {restoring.checkpoint_id} has expired before it was read")]
    again = _requested(kept, node_id, "recovery", resume=restoring.resume, awaited_by=restoring.awaited_by)
    return [*asked, again]


def nothing_pending(agent: AgentState) -> list[AgentEvent]:
    """The agent ends: what is still to be stored or brought back will not be."""
    return [*given_up(agent, _ENDED), *_failed(agent, _ENDED)]
