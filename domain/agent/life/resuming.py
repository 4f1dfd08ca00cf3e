"""A suspended agent goes on: as it is, brought back to a checkpoint, or with a person's word about held work."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from l02.domain.agent.execution import TOOL, JournalEntry
from l02.domain.agent.life.suspension import resumed
from l02.domain.agent.messages import AgentCommand, AgentEvent, refuse
from l02.domain.agent.saved.restoring import brought_back, taken_over
from l02.domain.agent.state import AgentState, known_deadline
from l02.domain.errors import ErrorCode, Failure
from l02.domain.kernel.message import Context
from l02.domain.values import require_shallow


class Resume(AgentCommand, frozen=True, kw_only=True):
    """Give a suspended agent a process again: as it is, or brought back to a checkpoint.

    With `assume`, let work go on that is held because only a person can know whether a tool took effect: it did
    (`done`, with its `result`), or it did not and is called again. `execution_id` says which, if there are several.
    """

    verb: ClassVar[str] = "resume"
    checkpoint_id: str | None = None
    assume: Literal["done", "not-done"] | None = None
    execution_id: str | None = None
    result: Any = None

    def __post_init__(self) -> None:
        if self.assume is None and (self.execution_id is not None or self.result is not None):
            raise ValueError("`execution_id` and `result` belong to `assume`")
        if self.assume is not None and self.checkpoint_id is not None:
            raise ValueError("give one of `checkpoint_id` and `assume`")
        if self.assume == "not-done" and self.result is not None:
            raise ValueError("what is not done has no `result`")

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """Nothing is to be done for one that has a process and no word for it."""
        if not agent.is_live:
            refuse(agent, self.verb, "spawn a new one")
        awaited_by = self.awaited_by(context)
        if self.assume is not None:
            again = _reopened(agent, self.execution_id, self.assume, self.result, awaited_by, context)
            return [*([resumed(agent, context.node_id)] if agent.is_suspended else []), again]
        if self.checkpoint_id is not None:
            return self._brought_back(agent, self.checkpoint_id, context)
        if not agent.is_suspended:
            return []
        return [resumed(agent, context.node_id), *taken_over(agent, context.node_id)]

    def _brought_back(self, agent: AgentState, checkpoint_id: str, context: Context) -> list[AgentEvent]:
        if not agent.is_suspended:
            refuse(agent, self.verb, "`restore` brings one back that has a process")
        asked = brought_back(agent, checkpoint_id, self.awaited_by(context), context, resume=True)
        return asked or [resumed(agent, context.node_id, checkpoint_id)]


class ExecutionReopened(AgentEvent, frozen=True, kw_only=True):
    """A person has `assumed` that the tools under way in held work are done, with `result`, or not-done: it goes on.

    `deadline` is when it must have ended, in seconds since 1970, UTC: its time begins anew.
    """

    type: ClassVar[str] = "agent.execution.reopened"
    schema_version: ClassVar[int] = 2
    execution_id: str
    assumed: str
    result: Any
    requested_by: str
    awaited_by: str | None = None
    deadline: float | UnsetType = UNSET

    def evolve(self, agent: AgentState, /) -> AgentState:
        """It is in the queue again, with the answers that were assumed."""
        execution = agent.held[self.execution_id]
        assumed = (
            JournalEntry(call=call, kind=TOOL, request=requested.request, ok=True, result=self.result)
            for call, requested in execution.requested_tools.items()
        )
        again = replace(
            execution.answered(*assumed) if self.assumed == "done" else execution,
            requested_tools={},
            awaited_by=self.awaited_by,
            deadline=known_deadline(self.deadline),
        )
        held = {key: value for key, value in agent.held.items() if key != self.execution_id}
        return replace(agent.with_execution(again), held=held)

    def owed_to(self) -> str | None:
        """Who waits for its end."""
        return self.awaited_by

    def outcome(self) -> dict[str, Any]:
        """Which work goes on."""
        return {"execution_id": self.execution_id}


def _reopened(
    agent: AgentState, execution_id: str | None, assumed: str, result: Any, awaited_by: str | None, context: Context
) -> ExecutionReopened:
    """Held work goes on as the person says."""
    require_shallow(result, "$.result")
    return ExecutionReopened(
        execution_id=_chosen(agent, execution_id),
        assumed=assumed,
        result=result,
        requested_by=context.actor,
        awaited_by=awaited_by,
        deadline=agent.deadline(context.time),
    )


def _chosen(agent: AgentState, execution_id: str | None) -> str:
    if execution_id in agent.held:
        return execution_id
    if not agent.held or execution_id is not None:
        raise Failure(
            ErrorCode.INVALID_STATE,
            "no such execution is held; `assume` is for one that failed because a tool may have taken effect, or not",
        )
    if len(agent.held) > 1:
        raise Failure(
            ErrorCode.COMMAND_INVALID, f"say which of the held executions: {', '.join(agent.held)}", "$.execution_id"
        )
    return next(iter(agent.held))
