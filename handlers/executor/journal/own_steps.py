"""What an agent does itself and only tells: checked, counted, recorded; and told again to its next process."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Collection, Iterable, Sequence
from typing import Any, cast

import msgspec
from msgspec import UNSET, UnsetType
from msgspec.structs import replace

from l02.bus.connection.bus import Bus
from l02.bus.objects.store import inline, outline
from l02.bus.wire.agent.lines import ProtocolError
from l02.bus.wire.agent.meter import is_counted
from l02.bus.wire.agent.protocol import Hello, OwnSteps, Recorded, Step, StepKind
from l02.domain.agent.execution import JournalEntry, SaidText
from l02.domain.agent.work.effects import RecordedStep, StepsRecorded
from l02.domain.errors import ErrorCode
from l02.domain.specification import ExecutorLimits
from l02.domain.values import INLINE_LIMIT_BYTES, REFERENCE_KEY, require_shallow
from l02.domain.weight import footprint
from l02.handlers.executor.work import Work

_EVENT_BYTES = 256 * 1024
_MESSAGE_BYTES = 1024 * 1024
_STEPS_A_TURN = 100
_CODES = {
    ErrorCode.TOOL_INVOCATION_FAILED.value,
    ErrorCode.TOOL_TIMEOUT.value,
    ErrorCode.CONTEXT_OVERFLOW.value,
    ErrorCode.PAYLOAD_TOO_LARGE.value,
}
"""What an agent may say of a tool of its own."""


def split(journal: Iterable[JournalEntry], hello: Hello) -> tuple[list[JournalEntry], list[JournalEntry]]:
    """What is on record as the agent has to be told of it: its own steps, and the answers of its node.

    What an agent does itself that does steps was the node's to answer until it did.
    """
    if not hello.records_steps:
        return [], [*journal]
    tools = own_tools(hello)
    steps: list[JournalEntry] = []
    answers: list[JournalEntry] = []
    has_steps = False
    for entry in journal:
        is_own = entry.kind in ("now", "random") or (entry.kind == "tool" and entry.request["tool"] in tools)
        has_steps = has_steps or entry.after is not UNSET
        if entry.after is not UNSET:
            steps.append(entry)
        elif is_own and not has_steps:
            steps.append(replace(entry, after=len(answers)))
        else:
            answers.append(entry)
    return steps, answers


def own_tools(hello: Hello) -> set[str]:
    """The tools that the agent may run without asking."""
    return {tool.name for tool in hello.tools if tool.idempotent}


def own_steps(limits: ExecutorLimits, recorded: int, answers: int, tokens: int) -> OwnSteps:
    """What an agent has to know that does steps itself."""
    return OwnSteps(
        recorded=recorded,
        answers=answers,
        tool_timeout_seconds=limits.tool_timeout_seconds,
        max_concurrent_tools=limits.max_concurrent_tools,
        max_tool_retries=limits.max_tool_retries if limits.retry_on_tool_failure else 0,
        tokens=tokens,
        window_tokens=limits.context_window_tokens,
    )


def require_own(step: Step, tools: Collection[str], answers: int, after: int) -> None:
    """Raise ProtocolError if the agent cannot have done that itself.

    `tools` are those that it may run, `answers` so many it has been given, `after` is that of the step before.
    """
    what = f"step {step.call}"
    if not after <= step.after <= answers:
        raise ProtocolError(
            f"{what} is after {step.after} answers; {answers} were given, and the step before had {after}"
        )
    if step.kind == "tool" and step.tool not in tools:
        raise ProtocolError(f"{what} runs {step.tool!r}, which `hello` did not announce as an idempotent tool")
    if step.kind == "now" and not _is_number(step.result):
        raise ProtocolError(f"{what} of kind `now` has no number of seconds for its result")
    if step.kind == "random" and not (_is_number(step.result) and 0 <= step.result < 1):
        raise ProtocolError(f"{what} of kind `random` has no number in [0, 1) for its result")
    if step.kind == "thread" and step.result is not None:
        raise ProtocolError(f"{what} of kind `thread` has a result")
    if not step.ok and step.result["code"] not in _CODES:
        raise ProtocolError(f"{what} failed with {step.result['code']!r}, which is no code of a tool")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


async def record(work: Work, steps: Sequence[Step], incarnation: int, text: SaidText | UnsetType) -> None:
    """Have steps recorded, in events that a message can hold; `text` is what had been streamed by then.

    Raises Failure for what cannot be, E2003 if it is a result for which the agent's context has no room.
    """
    some: list[RecordedStep] = []
    room, memory = _EVENT_BYTES, 0

    def add() -> None:
        report = StepsRecorded(execution_id=work.execution_id, steps=tuple(some))
        work.records.add(report, incarnation, steps_bytes=_EVENT_BYTES - room, steps_footprint=memory)

    for number, step in enumerate(steps, start=1):
        if number % _STEPS_A_TURN == 0:
            await asyncio.sleep(0)  # a turn for others
        require_shallow(step.arguments if step.arguments is not UNSET else None, "$.arguments")
        require_shallow(step.result, "$.result")
        if step.kind == "tool" and is_counted(step.ok, step.result):
            work.steps_meter.add(step.result)
            work.meter.entered(step.result)
        recorded = RecordedStep(
            call=step.call,
            kind=step.kind,
            after=step.after,
            tool=step.tool,
            arguments=step.arguments,
            ok=step.ok,
            result=step.result,
            text=text if step is steps[-1] else UNSET,
        )
        raw = msgspec.json.encode(recorded)
        if len(raw) > INLINE_LIMIT_BYTES or REFERENCE_KEY in raw:
            recorded = await _outlined(work.node.bus, recorded)
            raw = msgspec.json.encode(recorded)
        size = len(raw)
        if some and size > room:
            add()
            some, room, memory = [], _EVENT_BYTES, 0
            await work.records.room()
        some.append(recorded)
        room -= size
        memory += footprint(raw)
    if some:
        add()


async def _outlined(bus: Bus, step: RecordedStep) -> RecordedStep:
    arguments = UNSET if step.arguments is UNSET else await outline(bus, step.arguments)
    return replace(step, arguments=arguments, result=await outline(bus, step.result))


async def told_again(bus: Bus, execution_id: str, steps: Sequence[JournalEntry]) -> AsyncIterator[Recorded]:
    """Recorded steps, in messages of a bounded length."""
    some: list[Step] = []
    size = 0
    for entry in steps:
        step = await _as_said(bus, entry)
        size += len(msgspec.json.encode(step))
        if some and size > _MESSAGE_BYTES:
            yield Recorded(execution_id=execution_id, steps=some)
            some, size = [], len(msgspec.json.encode(step))
        some.append(step)
    if some:
        yield Recorded(execution_id=execution_id, steps=some)


async def _as_said(bus: Bus, entry: JournalEntry) -> Step:
    assert entry.after is not UNSET
    is_tool = entry.kind == "tool"
    return Step(
        call=entry.call,
        kind=cast(StepKind, entry.kind),
        after=entry.after,
        tool=entry.request["tool"] if is_tool else UNSET,
        arguments=await inline(bus, entry.request["arguments"]) if is_tool else UNSET,
        ok=entry.ok,
        result=await inline(bus, entry.result),
    )
