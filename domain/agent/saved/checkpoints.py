"""Checkpoints of an agent: asked for, stored, kept while nothing changes, given up.

A checkpoint is asked for first and created when it is stored, so a crash in between leaves a wish on record and never
half a checkpoint. Whatever a later state depends on is in the event, by value or by reference.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from msgspec import UNSET, Meta, UnsetType
from msgspec.structs import replace

from l02.domain.agent.messages import (
    AgentCommand,
    AgentEvent,
    AgentReport,
    AgentTimerCommand,
    refuse,
    require_may_act,
    require_node,
)
from l02.domain.agent.sessions import told_of_checkpoint
from l02.domain.agent.state import AgentState, CheckpointType, KeptCheckpoint, PendingCheckpoint, StateChange
from l02.domain.agent.work.effects import EffectRecorded
from l02.domain.errors import ErrorCode, Failure
from l02.domain.kernel.message import Completing, Context, Refused, command_ids

MAX_CHECKPOINTS = 500
MAX_PENDING_CHECKPOINTS = 20
_HOLDS_MORE = -1  # no revision of the agent: the checkpoint has what an execution had changed and not yet committed

Label = Annotated[str, Meta(min_length=1, max_length=200)]


class Checkpoint(AgentCommand, frozen=True, kw_only=True):
    """Store a checkpoint of the agent. If nothing has changed since the newest one, the answer names that."""

    verb: ClassVar[str] = "checkpoint"
    label: Label | None = None

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """Unless the newest one holds the agent as it is."""
        if not agent.is_live:
            refuse(agent, self.verb, "its last checkpoints can be forked")
        kept = _still_good(agent, self.label)
        if kept is not None:
            return [kept]
        if _is_full(agent):
            raise Failure(ErrorCode.INVALID_STATE, f"{_FULL}; see whether the store answers")
        return [
            CheckpointRequested(
                checkpoint_id=context.command_id,
                checkpoint_type="manual",
                node_id=context.node_id,
                label=self.label,
                awaited_by=self.awaited_by(context),
            )
        ]


class CheckpointRequested(AgentReport, frozen=True, kw_only=True):
    """A checkpoint of the agent is to be stored, by `node_id`.

    If an execution asked for it, `execution_id` and `call` say which, and `state` what it has changed so far: that is
    in the checkpoint too, though it becomes the agent's state only when the execution completes.
    """

    type: ClassVar[str] = "agent.checkpoint.requested"
    checkpoint_id: str
    checkpoint_type: CheckpointType
    node_id: str
    label: str | None = None
    execution_id: str | None = None
    call: int | None = None
    state: StateChange | UnsetType = UNSET
    awaited_by: str | None = None

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """Asked for by the runtime itself: at an interval, before it ends a process, or for an execution."""
        if self.execution_id is not None:
            return self._for_execution(agent, self.execution_id, context)
        is_needed = agent.revision and agent.unchanged_since is None and not agent.pending_checkpoints
        return [self] if is_needed and agent.is_live and agent.node_id == self.node_id else []

    def _for_execution(self, agent: AgentState, execution_id: str, context: Context) -> list[AgentEvent]:
        if execution_id not in agent.executions:
            raise Failure(ErrorCode.INVALID_STATE, f"execution {execution_id} is not under way any more")
        require_node(agent, replace(context, node_id=self.node_id))
        require_may_act(agent, "checkpoint the work of")
        if self.checkpoint_id in agent.pending_checkpoints or _is_answered(agent, execution_id, self.call):
            return []
        kept = _still_good(agent, self.label) if self.state is UNSET else None
        if kept is not None:
            return [kept, *_answers(agent, self, {"checkpoint_id": kept.checkpoint_id})]
        if _is_full(agent):
            return _answers(agent, self, {"code": ErrorCode.CHECKPOINT_FAILED.value, "message": _FULL})
        return [self]

    def evolve(self, agent: AgentState, /) -> AgentState:
        """It waits to be stored."""
        pending = PendingCheckpoint(
            checkpoint_id=self.checkpoint_id,
            checkpoint_type=self.checkpoint_type,
            node_id=self.node_id,
            label=self.label,
            execution_id=self.execution_id,
            call=self.call,
            state=None if self.state is UNSET else self.state,
            awaited_by=self.awaited_by,
            asked_before=self.checkpoint_id in agent.pending_checkpoints,
        )
        return replace(agent, pending_checkpoints={**agent.pending_checkpoints, self.checkpoint_id: pending})

    def owed_to(self) -> str | None:
        """Who waits for it to be stored."""
        return self.awaited_by

    def outcome(self) -> dict[str, Any]:
        """Under which id it will be found."""
        return {"checkpoint_id": self.checkpoint_id}


class CheckpointCreated(AgentReport, Completing, frozen=True, kw_only=True):
    """A checkpoint is stored. It holds the agent as of its `version`; `sha256` is of what was stored.

    `size_bytes` is before and `compressed_bytes` after compression. `revision` counts what has changed of the agent:
    while it stays the same, no new checkpoint is needed. `created_at` is in seconds since 1970.
    """

    type: ClassVar[str] = "agent.checkpoint.created"
    checkpoint_id: str
    checkpoint_type: CheckpointType
    label: str | None
    storage_location: str
    size_bytes: int
    compressed_bytes: int
    sha256: str
    version: int
    revision: int
    created_at: float
    duration_seconds: float

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """It exists from now on; an agent has only so many, and the oldest make room."""
        pending = agent.pending_checkpoints.get(self.checkpoint_id)
        if pending is None:
            return []
        created = replace(
            self,
            checkpoint_type=pending.checkpoint_type,
            label=pending.label,
            revision=self.revision if pending.state is None else _HOLDS_MORE,
            completes=command_ids(pending.awaited_by),
        )
        return [
            created,
            *_answers(agent, pending, {"checkpoint_id": self.checkpoint_id}),
            *_expired(_displaced(list(agent.checkpoints.values()))),
        ]

    def evolve(self, agent: AgentState, /) -> AgentState:
        """It is kept, and the session's other side is to hear of it."""
        kept = KeptCheckpoint(
            checkpoint_id=self.checkpoint_id,
            checkpoint_type=self.checkpoint_type,
            label=self.label,
            storage_location=self.storage_location,
            sha256=self.sha256,
            version=self.version,
            revision=self.revision,
            created_at=self.created_at,
        )
        return replace(
            agent,
            checkpoints={**agent.checkpoints, self.checkpoint_id: kept},
            pending_checkpoints=_without_pending(agent, self.checkpoint_id),
            session=told_of_checkpoint(agent, "snapshot", self.checkpoint_id, self.label),
        )

    def outcome(self) -> dict[str, Any]:
        """Where it is and how large."""
        fields = ("checkpoint_id", "label", "size_bytes", "compressed_bytes", "sha256")
        return {name: getattr(self, name) for name in fields}


class CheckpointKept(AgentEvent, frozen=True, kw_only=True):
    """A checkpoint was asked for, and nothing has changed since this one; `label` is its label from now on."""

    type: ClassVar[str] = "agent.checkpoint.kept"
    checkpoint_id: str
    label: str | None = None

    def evolve(self, agent: AgentState, /) -> AgentState:
        """Only a label that is new is news to the session's other side."""
        known = agent.checkpoints[self.checkpoint_id]
        labelled = replace(known, label=self.label)
        is_news = self.label != known.label
        return replace(
            agent,
            checkpoints={**agent.checkpoints, self.checkpoint_id: labelled},
            session=told_of_checkpoint(agent, "snapshot", self.checkpoint_id, self.label) if is_news else agent.session,
        )

    def outcome(self) -> dict[str, Any]:
        """Which one it is."""
        return {"checkpoint_id": self.checkpoint_id}


class CheckpointFailed(AgentReport, Completing, frozen=True, kw_only=True):
    """A checkpoint that was asked for could not be stored."""

    type: ClassVar[str] = "agent.checkpoint.failed"
    checkpoint_id: str
    checkpoint_type: CheckpointType
    code: str
    message: str

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """There is no such checkpoint, and whoever waits for it is told."""
        pending = agent.pending_checkpoints.get(self.checkpoint_id)
        if pending is None:
            return []
        answer = {"code": self.code, "message": self.message}
        return [_failed(pending, self.code, self.message), *_answers(agent, pending, answer)]

    def evolve(self, agent: AgentState, /) -> AgentState:
        """Nothing waits to be stored."""
        return replace(agent, pending_checkpoints=_without_pending(agent, self.checkpoint_id))

    def outcome(self) -> Refused:
        """Why it failed."""
        return Refused(code=self.code, message=self.message)


class ExpireCheckpoints(AgentTimerCommand, frozen=True, kw_only=True):
    """Give up these checkpoints, but none of the newest `keep`. Any that are gone are ignored."""

    verb: ClassVar[str] = "expire-checkpoints"
    checkpoint_ids: Annotated[tuple[str, ...], Meta(max_length=1000)]
    keep: Annotated[int, Meta(ge=0)] = 10

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """Those named that are not among the newest."""
        stored = list(agent.checkpoints.values())
        spared = stored[max(0, len(stored) - self.keep) :]
        wanted = set(self.checkpoint_ids) - {item.checkpoint_id for item in spared}
        return _expired([item for item in stored if item.checkpoint_id in wanted])


class CheckpointExpired(AgentEvent, frozen=True, kw_only=True):
    """A checkpoint is given up; what is stored of it is deleted."""

    type: ClassVar[str] = "agent.checkpoint.expired"
    checkpoint_id: str
    storage_location: str

    def evolve(self, agent: AgentState, /) -> AgentState:
        """It is gone."""
        left = {key: value for key, value in agent.checkpoints.items() if key != self.checkpoint_id}
        return replace(agent, checkpoints=left)


_FULL = f"{MAX_PENDING_CHECKPOINTS} checkpoints of the agent wait to be stored"


def _is_full(agent: AgentState) -> bool:
    return len(agent.pending_checkpoints) >= MAX_PENDING_CHECKPOINTS


def _still_good(agent: AgentState, label: str | None) -> CheckpointKept | None:
    """The newest checkpoint will do if nothing has changed since, and it has not been given another name."""
    newest = agent.unchanged_since
    if newest is None or (newest.label is not None and label not in (None, newest.label)):
        return None
    return CheckpointKept(checkpoint_id=newest.checkpoint_id, label=newest.label or label)


def _is_answered(agent: AgentState, execution_id: str | None, call: int | None) -> bool:
    execution = agent.executions.get(execution_id or "")
    return execution is None or execution.has_recorded(call)


def _answers(
    agent: AgentState, asked: PendingCheckpoint | CheckpointRequested, result: dict[str, Any]
) -> list[AgentEvent]:
    """The execution that asked for a checkpoint, if one did and is still under way, has its answer on record."""
    if asked.execution_id is None or asked.call is None or _is_answered(agent, asked.execution_id, asked.call):
        return []
    return [
        EffectRecorded(
            execution_id=asked.execution_id,
            call=asked.call,
            kind="checkpoint",
            request={"label": asked.label},
            result=result,
        )
    ]


def _without_pending(agent: AgentState, checkpoint_id: str) -> dict[str, PendingCheckpoint]:
    return {key: value for key, value in agent.pending_checkpoints.items() if key != checkpoint_id}


def _displaced(stored: list[KeptCheckpoint]) -> list[KeptCheckpoint]:
    """What makes room for one more: one that was taken at an interval sooner than one that somebody wanted."""
    at_intervals = [item for item in stored if item.checkpoint_type == "auto"]
    return (at_intervals or stored)[: max(0, len(stored) + 1 - MAX_CHECKPOINTS)]


def _expired(checkpoints: list[KeptCheckpoint]) -> list[AgentEvent]:
    return [
        CheckpointExpired(checkpoint_id=item.checkpoint_id, storage_location=item.storage_location)
        for item in checkpoints
    ]


def _failed(pending: PendingCheckpoint, code: str, message: str) -> CheckpointFailed:
    return CheckpointFailed(
        checkpoint_id=pending.checkpoint_id,
        checkpoint_type=pending.checkpoint_type,
        code=code,
        message=message,
        completes=command_ids(pending.awaited_by),
    )


def asked_again(agent: AgentState, node_id: str, lost_node_id: str | None) -> list[AgentEvent]:
    """What the lost node, or any other one, was to store for the agent is asked of this one."""
    return [
        CheckpointRequested(
            checkpoint_id=pending.checkpoint_id,
            checkpoint_type=pending.checkpoint_type,
            node_id=node_id,
            label=pending.label,
            execution_id=pending.execution_id,
            call=pending.call,
            state=UNSET if pending.state is None else pending.state,
            awaited_by=pending.awaited_by,
        )
        for pending in agent.pending_checkpoints.values()
        if moves(pending.node_id, node_id, lost_node_id)
    ]


def moves(asked_of: str, node_id: str, lost_node_id: str | None) -> bool:
    """Whether what was asked of one node is now another's to do."""
    return asked_of != node_id and lost_node_id in (None, asked_of)


def given_up(agent: AgentState, message: str) -> list[AgentEvent]:
    """What is still to be stored will not be."""
    code = ErrorCode.CHECKPOINT_FAILED.value
    return [_failed(pending, code, message) for pending in agent.pending_checkpoints.values()]
