"""What an agent waits for: a signal, time, a limit, a model, a tool or a person's word."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from l02.domain.agent.work.approvals import ApprovalAnswered, ApprovalRequested
from l02.domain.agent.work.blocking import BudgetDenied, BudgetGranted, BudgetWaiting
from l02.domain.agent.work.effects import EffectRecorded, ToolCalled, ToolRequested
from l02.domain.agent.work.executions import ExecutionCompleted, ExecutionFailed
from l02.domain.agent.work.models import ModelCalled, ModelRequested
from l02.domain.kernel.message import Event
from l02.domain.spending.amounts import Amount
from l02.domain.spending.limits import LimitAction, LimitName
from l02.projections.folds.limits import moment

MAX_WAITS = 200
"""A view travels in one message: of an agent that waits for more at once, those that came first are in it."""
_MAX_ARGUMENT_BYTES = 2000

WaitKind = Literal["signal", "sleep", "budget", "model", "tool", "person"]


class WaitView(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A call that waits. `name` is that of the signal, the tool, the model or the limit; `until` is when that is over,
    if it is by itself.

    `question` is what a person is asked about it (`l02 approve`), `needed` what it is about: the arguments of a tool,
    unless they are large, or what may be needed of a limit, which is that of `budget`, or the agent's own without one.
    `action` is what was done when the limit was met.
    """

    execution_id: str
    call: int
    kind: WaitKind
    name: str | None = None
    question: str | None = None
    since: datetime
    until: datetime | None = None
    budget: str | None = None
    limit: LimitName | None = None
    needed: Any = None
    action: LimitAction | None = None

    @property
    def needed_amount(self) -> Amount | None:
        """What may be needed of the limit, if it waits for one."""
        return msgspec.convert(self.needed, Amount) if self.kind == "budget" else None


OF_WAITING = (
    EffectRecorded,
    ToolRequested,
    ToolCalled,
    ApprovalRequested,
    ApprovalAnswered,
    BudgetWaiting,
    BudgetGranted,
    BudgetDenied,
    ModelRequested,
    ModelCalled,
    ExecutionCompleted,
    ExecutionFailed,
)
"""The events that begin a wait or end one."""


class QuestionView(Struct, frozen=True, kw_only=True):
    """What a person is asked, since when: about a call of an agent's work, for more of a `budget` or to let a `tool` be
    called. `what` is the tool, or the limit, after `budget/<id>` if it is a budget's. `needed` is as in `waiting`.
    """

    id: str
    agent_id: str
    execution_id: str
    call: int
    kind: Literal["budget", "tool"]
    what: str
    needed: Any
    since: datetime


Waits = tuple[WaitView, ...]


def waits_after(waits: Waits, agent_id: str, event: Event, time: datetime) -> Waits:
    """After an event."""
    match event:
        case ExecutionCompleted() | ExecutionFailed():
            return tuple(wait for wait in waits if wait.execution_id != event.execution_id)
        case EffectRecorded(kind="signal" | "sleep", done=False):
            until = moment(event.deadline)
            name = event.request["name"] if event.kind == "signal" else None
            kind: WaitKind = "signal" if event.kind == "signal" else "sleep"
            wait = _wait(event, kind, time, name=name, until=until)
        case ToolRequested():
            wait = _wait(event, "tool", time, name=event.tool)
        case ApprovalRequested():
            small = len(msgspec.json.encode(event.arguments)) <= _MAX_ARGUMENT_BYTES
            needed = event.arguments if small else None
            wait = _wait(event, "person", time, name=f"{event.server}.{event.tool}", needed=needed)
            wait = replace(wait, question=question_id(agent_id, event.execution_id, event.call))
        case BudgetWaiting():
            asked = question_id(agent_id, event.execution_id, event.call) if event.action is LimitAction.ASK else None
            wait = _wait(
                event,
                "budget",
                time,
                name=event.limit.value,
                question=asked,
                until=moment(event.reset_at),
                budget=event.budget,
                limit=event.limit,
                needed=msgspec.to_builtins(event.needed),
                action=event.action,
            )
        case ModelRequested():
            wait = _wait(event, "model", time, name=event.alias)
        case EffectRecorded() | ToolCalled() | ApprovalAnswered() | BudgetGranted() | BudgetDenied() | ModelCalled():
            return _without(waits, event.execution_id, event.call)
        case _:
            return waits
    return (*_without(waits, wait.execution_id, wait.call), wait)[:MAX_WAITS]


def question_id(agent_id: str, execution_id: str, call: int) -> str:
    """What a person is asked, by an id that leads to it."""
    return f"{agent_id}/{execution_id}/{call}"


def questions_of(agent_id: str, waits: Waits) -> list[QuestionView]:
    """What persons are asked about an agent."""
    return [
        QuestionView(
            id=wait.question,
            agent_id=agent_id,
            execution_id=wait.execution_id,
            call=wait.call,
            kind="tool" if wait.kind == "person" else "budget",
            what=(f"budget/{wait.budget} " if wait.budget is not None else "") + (wait.name or ""),
            needed=wait.needed,
            since=wait.since,
        )
        for wait in waits
        if wait.question is not None
    ]


def _wait(event: Any, kind: WaitKind, time: datetime, **more: Any) -> WaitView:
    return WaitView(execution_id=event.execution_id, call=event.call, kind=kind, since=time, **more)


def _without(waits: Waits, execution_id: str, call: int) -> Waits:
    if not any(wait.call == call and wait.execution_id == execution_id for wait in waits):
        return waits
    return tuple(wait for wait in waits if wait.call != call or wait.execution_id != execution_id)
