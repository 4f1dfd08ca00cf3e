"""What an execution takes from the world: each effect is recorded once, and replayed when the execution runs again."""

from __future__ import annotations

from typing import Any, ClassVar

from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from l02.domain.agent.execution import THREAD, TOOL, Execution, JournalEntry, RequestedTool, SaidText, Waiting
from l02.domain.agent.messages import AgentEvent, AgentReport, require_may_act, require_node, require_process
from l02.domain.agent.state import AgentState, PendingSignal
from l02.domain.errors import ErrorCode, Failure
from l02.domain.kernel.message import Context


class ToolRequested(AgentReport, frozen=True, kw_only=True):
    """A tool that must not be called twice is about to be called: after a crash, a person has to decide."""

    type: ClassVar[str] = "agent.tool.requested"
    execution_id: str
    call: int
    tool: str
    arguments: Any

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """Once for a call; none begins when the agent is to rest or to end."""
        execution = at_work(agent, self.execution_id, context)
        require_may_act(agent, "call a tool for")
        return [] if self.call in execution.requested_tools or execution.has_recorded(self.call) else [self]

    def evolve(self, agent: AgentState, /) -> AgentState:
        """The call is under way."""
        execution = agent.executions[self.execution_id]
        requested = RequestedTool(tool=self.tool, arguments=self.arguments)
        return agent.with_execution(
            replace(execution, requested_tools={**execution.requested_tools, self.call: requested})
        )


class ToolCalled(AgentReport, frozen=True, kw_only=True):
    """A tool was called for an execution, and this came of it. `text` had been streamed when it was asked for."""

    type: ClassVar[str] = "agent.tool.called"
    schema_version: ClassVar[int] = 2
    execution_id: str
    call: int
    tool: str
    arguments: Any
    ok: bool
    result: Any
    attempts: int
    duration_seconds: float
    text: SaidText | UnsetType = UNSET

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """Once for a call."""
        return [] if is_recorded(self.entry, at_work(agent, self.execution_id, context)) else [self]

    def evolve(self, agent: AgentState, /) -> AgentState:
        """The answer stands in the journal."""
        return agent.with_execution(agent.executions[self.execution_id].answered(self.entry))

    @property
    def entry(self) -> JournalEntry:
        """As it stands in the journal."""
        request = {"tool": self.tool, "arguments": self.arguments}
        return JournalEntry(call=self.call, kind=TOOL, request=request, ok=self.ok, result=self.result, text=self.text)


class RecordedStep(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What the agent did itself: `kind` is tool, now, random or thread.

    `after` is how many answers of the node's it had taken in before it took in this. `call` is its number among the
    calls; of a thread, which has no result on record, its number among the threads. `result` of a tool that failed (not
    `ok`) is an object with `code` and `message`. Large arguments and results may be references to the object store.
    `text` is what had been streamed by then; of steps told together the last has it.
    """

    call: int
    kind: str
    after: int
    tool: str | UnsetType = UNSET
    arguments: Any | UnsetType = UNSET
    ok: bool = True
    result: Any = None
    text: SaidText | UnsetType = UNSET

    @property
    def entry(self) -> JournalEntry:
        """As it stands in the journal."""
        request: dict[str, Any] = {}
        if self.kind == TOOL:
            request = {
                "tool": None if self.tool is UNSET else self.tool,
                "arguments": None if self.arguments is UNSET else self.arguments,
            }
        return JournalEntry(
            call=self.call,
            kind=self.kind,
            request=request,
            ok=self.ok,
            result=self.result,
            after=self.after,
            text=self.text,
        )


class StepsRecorded(AgentReport, frozen=True, kw_only=True):
    """What the agent did itself in an execution, in the order in which it took in the results."""

    type: ClassVar[str] = "agent.steps.recorded"
    execution_id: str
    steps: tuple[RecordedStep, ...]

    @property
    def calls(self) -> int:
        """How many of them are calls: a thread is none."""
        return sum(step.kind != THREAD for step in self.steps)

    @property
    def tool_calls(self) -> int:
        """How many of them are calls of tools."""
        return sum(step.kind == TOOL for step in self.steps)

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """Those that are not on record yet."""
        require_process(agent, context)
        execution = at_work(agent, self.execution_id, context)
        news: dict[tuple[bool, int], RecordedStep] = {}
        for step in self.steps:
            entry = step.entry
            if entry.place in news:
                _require_same(entry, news[entry.place].entry)
            elif not is_recorded(entry, execution):
                news[entry.place] = step
        return [replace(self, steps=tuple(news.values()))] if news else []

    def evolve(self, agent: AgentState, /) -> AgentState:
        """They stand in the journal."""
        execution = agent.executions[self.execution_id]
        return agent.with_execution(execution.answered(*(step.entry for step in self.steps)))


class EffectRecorded(AgentReport, frozen=True, kw_only=True):
    """Something else was taken from the world: `kind` is tools, now, random, sleep, signal or checkpoint.

    A sleep or a wait is recorded when it begins with its `deadline` (seconds since 1970) and `done` false, and again
    when it is over. `text` is what had been streamed when it was asked for. A large result may
    be a reference to the object store.
    """

    type: ClassVar[str] = "agent.effect.recorded"
    schema_version: ClassVar[int] = 2
    execution_id: str
    call: int
    kind: str
    request: Any
    result: Any
    done: bool = True
    deadline: float | None = None
    text: SaidText | UnsetType = UNSET

    def decide(self, agent: AgentState, context: Context, /) -> list[AgentEvent]:
        """Once for a call; a wait when it begins and when it is over."""
        execution = at_work(agent, self.execution_id, context)
        if (not self.done and self.call in execution.waiting) or is_recorded(self._entry_in(execution), execution):
            return []
        if self.kind == "signal" and not _names_a_signal(self.request):
            raise Failure(ErrorCode.COMMAND_INVALID, "say by name which signal is waited for", "$.request.name")
        return [self]

    def evolve(self, agent: AgentState, /) -> AgentState:
        """A wait is under way, or its answer stands in the journal."""
        execution = agent.executions[self.execution_id]
        if not self.done:
            waiting = Waiting(kind=self.kind, request=self.request, deadline=self.deadline)
            return agent.with_execution(replace(execution, waiting={**execution.waiting, self.call: waiting}))
        after = agent.with_execution(execution.answered(self.entry))
        if self.kind == "checkpoint" and self.call not in execution.waiting:  # nothing to take another one for
            return replace(after, revision=agent.revision)
        if self.kind == "signal" and self.result is not None:
            return replace(after, signals=_without_first(agent.signals, self.request["name"]))
        return after

    @property
    def entry(self) -> JournalEntry:
        """As it stands in the journal when it is `done`."""
        return JournalEntry(
            call=self.call, kind=self.kind, request=self.request, ok=True, result=self.result, text=self.text
        )

    def _entry_in(self, execution: Execution) -> JournalEntry:
        """The same, with the result on record if it has none yet."""
        known = execution.journal.answer(self.call)
        return self.entry if self.done or known is None else replace(self.entry, result=known.result)


def at_work(agent: AgentState, execution_id: str, context: Context) -> Execution:
    """The execution, if the node that says so has it under way; Failure E2112 otherwise."""
    require_node(agent, context)
    execution = agent.executions.get(execution_id)
    if execution is None or agent.has_ended:
        raise Failure(ErrorCode.INVALID_STATE, f"execution {execution_id} is not under way any more")
    return execution


def is_recorded(entry: JournalEntry, execution: Execution) -> bool:
    """Whether that is on record already. Failure E2116 if it is, and otherwise than this."""
    known = execution.journal.at(entry.place)
    if known is not None:
        _require_same(entry, known)
    return known is not None


def _require_same(entry: JournalEntry, known: JournalEntry) -> None:
    if not entry.is_same(known):
        raise Failure(
            ErrorCode.NONDETERMINISTIC_AGENT,
            f"{'thread' if entry.kind == THREAD else 'call'} {entry.call} ({known.kind}) is on record, and not as this "
            "says it is; an agent must make the same calls when it gets the same answers (docs/agent-protocol.md)",
        )


def _names_a_signal(request: Any) -> bool:
    return isinstance(request, dict) and isinstance(request.get("name"), str)


def _without_first(signals: tuple[PendingSignal, ...], name: str) -> tuple[PendingSignal, ...]:
    for index, signal in enumerate(signals):
        if signal.name == name:
            return signals[:index] + signals[index + 1 :]
    return signals
