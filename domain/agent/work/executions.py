"""Pieces of work: accepted in order, done one after another, ended well or badly."""

from __future__ import annotations

from typing import Any, ClassVar

from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from l02.domain.agent.execution import Execution, LostModelCall, lost_spending
from l02.domain.agent.life.suspension import woken
from l02.domain.agent.messages import AgentCommand, AgentEvent, AgentReport, AgentTimerCommand, refuse, require_process
from l02.domain.agent.state import AgentState, StateChange, known_deadline
from l02.domain.errors import ErrorCode, Failure, OwnError
from l02.domain.inference import Spending
from l02.domain.kernel.message import Completing, Context, Refused, command_ids
from l02.domain.spending.amounts import Amount
from l02.domain.values import require_shallow

MAX_HELD_EXECUTIONS = 100


class Execute(AgentCommand, frozen=True, kw_only=True):
    """Give the agent a piece of work; the execution has the command's id."""

    verb: ClassVar[str] = "execute"
    input: Any

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """Accepted while the queue has room; one that sleeps is woken."""
        if not agent.is_live:
            refuse(agent, self.verb, "spawn a new one")
        if agent.is_suspended and not (agent.sleeps or agent.waits_for_budget):
            refuse(agent, self.verb, "resume it first")
        limit = agent.specification.executor.max_queued_executions
        if len(agent.executions) >= limit:
            raise Failure(
                ErrorCode.INVALID_STATE,
                f"the agent has {limit} executions under way (max_queued_executions); try again when some have ended",
            )
        require_shallow(self.input, "$.input")
        started = ExecutionStarted(
            execution_id=context.command_id,
            input=self.input,
            awaited_by=self.awaited_by(context),
            deadline=agent.deadline(context.time),
        )
        return [*woken(agent, context.node_id), started]


class ExecutionStarted(AgentEvent, frozen=True, kw_only=True):
    """A piece of work is accepted; it is worked on in the order of acceptance.

    `deadline` is when it must have ended, in seconds since 1970, UTC, if `execution_seconds` are limited.
    """

    type: ClassVar[str] = "agent.execution.started"
    schema_version: ClassVar[int] = 2
    execution_id: str
    input: Any
    awaited_by: str | None = None
    deadline: float | UnsetType = UNSET

    def evolve(self, agent: AgentState, /) -> AgentState:
        """It is in the queue."""
        return agent.with_execution(
            Execution(
                execution_id=self.execution_id,
                input=self.input,
                awaited_by=self.awaited_by,
                deadline=known_deadline(self.deadline),
            )
        )

    def owed_to(self) -> str | None:
        """Who waits for its end."""
        return self.awaited_by

    def outcome(self) -> dict[str, Any]:
        """Under which id it is found."""
        return {"execution_id": self.execution_id}


class ExecutionCompleted(AgentReport, Completing, frozen=True, kw_only=True):
    """The work is done. `calls` is how many effects it took.

    `tokens` is what its models have used, of one that has asked none what went through its context. If it has asked
    some, `spent` is what they took in all, with the calls that were `lost`: those that were open.
    """

    type: ClassVar[str] = "agent.execution.completed"
    schema_version: ClassVar[int] = 2
    execution_id: str
    output: Any
    tokens: int
    duration_seconds: float
    calls: int
    state: StateChange | UnsetType = UNSET
    spent: Amount | UnsetType = UNSET
    lost: tuple[LostModelCall, ...] | UnsetType = UNSET

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """It ends once."""
        return _ended(self, agent, context)

    def evolve(self, agent: AgentState, /) -> AgentState:
        """What it has changed is the agent's, and the process has proved itself."""
        return replace(
            _without(self, agent),
            data=agent.data if self.state is UNSET else self.state.applied_to(agent.data),
            restart_attempt=agent.restart_attempt if agent.restart_pending else 0,
        )

    def outcome(self) -> dict[str, Any]:
        """What came of it."""
        return {"execution_id": self.execution_id, "output": self.output}


class ExecutionFailed(AgentReport, Completing, frozen=True, kw_only=True):
    """The work ended badly; what it changed of the agent's state is dropped.

    `detail` is what the agent itself calls its failure, beside E2005. It is `held` if only a person can know whether a
    tool took effect: `resume` with `assume` lets it go on. `spent` and `lost` are as of work that is completed.
    """

    type: ClassVar[str] = "agent.execution.failed"
    schema_version: ClassVar[int] = 4
    execution_id: str
    code: str
    message: str
    tokens: int = 0
    held: bool = False
    detail: OwnError | None = None
    spent: Amount | UnsetType = UNSET
    lost: tuple[LostModelCall, ...] | UnsetType = UNSET

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """It ends once."""
        return _ended(self, agent, context)

    def evolve(self, agent: AgentState, /) -> AgentState:
        """It is gone, or held."""
        after = _without(self, agent)
        return replace(after, held=_with_held(agent, self.execution_id)) if self.held else after

    def outcome(self) -> Refused:
        """Why it failed."""
        return Refused(code=self.code, message=self.message, detail=self.detail)


class ExecutionDue(AgentTimerCommand, frozen=True, kw_only=True):
    """Work must have ended by `deadline` (seconds since 1970, UTC). Ignored if it has, or was given more time since."""

    verb: ClassVar[str] = "execution-due"
    execution_id: str
    deadline: float

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """It has no time left, whatever the agent's state is; if a limit was in its way, work that follows may go on.

        Which deadline the timer was set for is compared, no clocks: the server's may be ahead of those of the nodes.
        """
        execution = agent.executions.get(self.execution_id)
        if execution is None or execution.deadline is None or execution.deadline > self.deadline:
            return []
        failure = overdue(agent)
        failed = _failed(execution, failure.code.value, failure.message)
        after = failed.evolve(agent)
        return [failed, *(woken(after, context.node_id) if after.executions and after.is_live else [])]


def overdue(agent: AgentState) -> Failure:
    """Why work ends that has no time left (E2006)."""
    seconds = agent.specification.resource_limits.execution_seconds
    limit = "in time" if seconds is UNSET else f"within {seconds:g} s"
    return Failure(ErrorCode.EXECUTION_TIMEOUT, f"not ended {limit} (resource_limits.execution_seconds)")


def _ended(report: ExecutionCompleted | ExecutionFailed, agent: AgentState, context: Context) -> list[AgentEvent]:
    require_process(agent, context)
    execution = agent.executions.get(report.execution_id)
    if execution is None:
        return []
    return [replace(report, completes=command_ids(execution.awaited_by), **_spending(execution, report.tokens))]


def _spending(execution: Execution, passed: int) -> dict[str, Any]:
    """What an event that ends it says of its tokens, of which so many have `passed` its context."""
    if not execution.has_asked_models:
        return {"tokens": passed}
    spent = execution.spent + lost_spending(execution.lost)
    return {"tokens": spent.tokens, "spent": Amount.of(spent), "lost": execution.lost or UNSET}


def _without(end: ExecutionCompleted | ExecutionFailed, agent: AgentState) -> AgentState:
    return agent.without_execution(end.execution_id, newly_spent(end), by_models=end.spent is not UNSET)


def newly_spent(end: ExecutionCompleted | ExecutionFailed) -> Spending:
    """What is not on record before the end: calls of models that are lost, or what went through the context."""
    if end.spent is UNSET:
        return Spending(tokens=end.tokens)
    return lost_spending(end.lost or ())


def _with_held(agent: AgentState, execution_id: str) -> dict[str, Execution]:
    held = {**agent.held, execution_id: replace(agent.executions[execution_id].settled(), awaited_by=None)}
    if len(held) > MAX_HELD_EXECUTIONS:
        del held[next(iter(held))]
    return held


def fail_open_executions(agent: AgentState, code: str, message: str) -> list[AgentEvent]:
    """End all executions that are under way, because the agent ends or goes back."""
    return [_failed(execution, code, message) for execution in agent.executions.values()]


def fail_execution_at_work(agent: AgentState, code: str, message: str) -> list[AgentEvent]:
    """End the execution that its process is working on, if there is one, for what it has done."""
    return [_failed(execution, code, message) for execution in [*agent.executions.values()][:1]]


def _failed(execution: Execution, code: str, message: str) -> ExecutionFailed:
    return ExecutionFailed(
        execution_id=execution.execution_id,
        code=code,
        message=message,
        completes=command_ids(execution.awaited_by),
        **_spending(execution, 0),
    )
