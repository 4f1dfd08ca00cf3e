"""What the executor reports of an agent's work: its effects, and its end."""

from __future__ import annotations

from typing import Any, ClassVar

from l02.domain.agent.event_parts import StateChange
from l02.domain.errors import OwnError
from l02.domain.message import Command

__all__ = ["CompleteExecution", "ExecutorCommand", "FailExecution", "RecordEffect", "RecordTool", "RequestTool"]


class ExecutorCommand(Command, frozen=True, kw_only=True):
    """From the executor of a node. One whose agent was given to another node meanwhile is refused."""

    verb: ClassVar[str]
    node_id: str


class RequestTool(ExecutorCommand, frozen=True, kw_only=True):
    """The executor: this tool, which must not be called twice, is about to be called."""

    verb: ClassVar[str] = "request-tool"
    execution_id: str
    call: int
    tool: str
    arguments: Any


class RecordTool(ExecutorCommand, frozen=True, kw_only=True):
    """The executor: this came of a tool call."""

    verb: ClassVar[str] = "record-tool"
    execution_id: str
    call: int
    tool: str
    arguments: Any
    ok: bool
    result: Any
    attempts: int
    duration_seconds: float


class RecordEffect(ExecutorCommand, frozen=True, kw_only=True):
    """The executor: this came of another effect, or a wait began."""

    verb: ClassVar[str] = "record-effect"
    execution_id: str
    call: int
    kind: str
    request: Any
    result: Any = None
    done: bool = True
    deadline: float | None = None


class CompleteExecution(ExecutorCommand, frozen=True, kw_only=True):
    """The executor: the agent has answered."""

    verb: ClassVar[str] = "complete-execution"
    execution_id: str
    output: Any
    tokens: int
    duration_seconds: float
    calls: int
    state: StateChange


class FailExecution(ExecutorCommand, frozen=True, kw_only=True):
    """The executor: the execution cannot go on; `held` if a person's word would let it."""

    verb: ClassVar[str] = "fail-execution"
    execution_id: str
    code: str
    message: str
    tokens: int = 0
    held: bool = False
    detail: OwnError | None = None
