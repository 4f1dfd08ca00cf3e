"""What an execution does itself and its node records later: the clock, chance, its idempotent tools, threads' turns.

See "Steps" in `docs/agent-protocol.md`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
from msgspec import UNSET

from l02.agent.context import ToolError
from l02.agent.definition import Agent, Tool
from l02.agent.running.intake import Intake, Place
from l02.agent.running.outbox import Outbox
from l02.agent.running.own_tools import OwnTools
from l02.bus.wire.agent.divergence import REPLAY_STALL_SECONDS, another, not_made, request_of
from l02.bus.wire.agent.lines import MAX_LINE, ProtocolError
from l02.bus.wire.agent.meter import ContextMeter, require_size
from l02.bus.wire.agent.protocol import Answer, Begin, Call, OwnSteps, Step
from l02.bus.wire.agent.texts import MESSAGE_BYTES, cut
from l02.domain.errors import ErrorCode, Failure, error_code
from l02.domain.values import MAX_DEPTH, nests_deeper
from l02.domain.weight import LIGHT_BYTES, WEIGHT_IN_WORDS

_MAX_ARGUMENTS_BYTES = MAX_LINE - 128 * 1024
"""So that they and the message of any failure go into one line."""
_SMALL_BYTES = LIGHT_BYTES // 4
"""A step of so long arguments and so long a result is always taken."""
_HELD_BACK_SECONDS = 5.0
_random = random.SystemRandom()
_encoder = msgspec.json.Encoder()

End = Callable[[int, Any], None]
"""Gives the handler what came of its call: the number, and the result or the `ToolError`."""


class Divergence(Exception):
    """This is not what is on record; the message says where they part."""


class OwnWork:
    """One per execution whose node takes steps."""

    def __init__(
        self,
        agent: Agent,
        execution_id: str,
        own: OwnSteps,
        intake: Intake,
        outbox: Outbox,
        end: End,
        diverge: Callable[[str], None],
    ) -> None:
        self._agent = agent
        self._execution_id = execution_id
        self._intake = intake
        self._outbox = outbox
        self._end = end
        self._diverge = diverge
        self._meter = ContextMeter(own.window_tokens, own.tokens)
        self._tools = OwnTools(own, self._begin)
        self._recorded: dict[int, Step] = {}
        self._threads = 0
        self._running_threads = 0
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def remember(self, steps: list[Step]) -> None:
        """Steps of an earlier run."""
        self._intake.remember(steps)
        self._recorded.update((step.call, step) for step in steps if step.kind != "thread")

    def takes(self, call: Call) -> bool:
        """Whether the call is done here; if not, the node is to be asked.

        Raises `Divergence`, and `ProtocolError` for arguments that are too large for a message.
        """
        recorded = self._recorded.pop(call.call, None)
        place = Place(False, call.call)
        if recorded is not None:
            before, now = (recorded.kind, request_of(recorded)), (call.kind, _plain(request_of(call)))
            if before != now:
                raise Divergence(another(call, *before))
            self._intake.own(place, partial(self._take_recorded, recorded))
        elif call.kind == "now":
            self._intake.own(place, partial(self._take_value, call, time.time()))
        elif call.kind == "random":
            self._intake.own(place, partial(self._take_value, call, _random.random()))
        elif (tool := self._tool_of(call)) is not None:
            arguments = _encoder.encode(call.arguments)
            if not self._can_record(call, arguments):  # so the node says, and ends the execution
                return False
            self._tools.start(call.call, tool, arguments, partial(self._done, call, len(arguments)))
        else:
            return False
        return True

    def answered(self, answer: Answer) -> None:
        """The node has called a tool, whose result enters the context."""
        if answer.ok:
            self._meter.entered(answer.result)
        elif answer.error is not UNSET and answer.error.content is not UNSET:
            error = answer.error
            self._meter.entered({"code": error.code, "message": error.message, "content": error.content})

    def in_order(self, inner: asyncio.Future[Any]) -> asyncio.Future[Any]:
        """What a thread comes to, when it is its turn."""
        self._threads += 1
        self._running_threads += 1
        place = Place(True, self._threads)
        outer = inner.get_loop().create_future()

        def arrive(inner: asyncio.Future[Any]) -> None:
            self._running_threads -= 1
            self._moved()
            take = partial(self._take_thread, place, self._intake.is_on_record(place), inner, outer)
            if self._closed:
                take()
            else:
                self._intake.own(place, take)

        inner.add_done_callback(arrive)
        outer.add_done_callback(lambda outer: inner.cancel() if outer.cancelled() else None)
        return outer

    def take_in(self) -> bool:
        """Nothing can run: take in the next thing. False if there is none; then it is seen to that one comes."""
        if self._intake.take_in():
            self._moved()
            return True
        is_timed = self._outbox.flush_soon()  # then the loop has another timer
        if self._timer is not None or not self._intake.is_replay:
            return is_timed
        patience = _HELD_BACK_SECONDS if self._intake.holds_back else REPLAY_STALL_SECONDS
        self._timer = asyncio.get_running_loop().call_later(patience, self._on_standstill)
        return True

    def close(self) -> list[asyncio.Future[Any]]:
        """The execution is over: tools that still run are cancelled. Those that are to end."""
        self._closed = True
        self._moved()
        return self._tools.cancel()

    def _moved(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_standstill(self) -> None:
        """It was waited long for what is on record. A journal from before says nothing of threads: they may be it."""
        self._timer = None
        step = self._intake.awaited
        if step is not None and step.kind == "thread" and step.call <= self._threads:
            return  # it runs
        if self._intake.holds_back:
            self._intake.take_in_held_back()
        elif step is not None and not self._running_threads:
            self._diverge(not_made(step.call, step.kind))

    def _tool_of(self, call: Call) -> Tool | None:
        tool = self._agent.tools.get(call.tool) if isinstance(call.tool, str) else None
        return tool if tool is not None and tool.description.idempotent else None

    def _can_record(self, call: Call, arguments: bytes) -> bool:
        if len(arguments) > _MAX_ARGUMENTS_BYTES:
            raise ProtocolError(
                f"the arguments have {len(arguments):,} bytes, and {_MAX_ARGUMENTS_BYTES:,} are allowed"
            )
        if _is_deep(arguments, MAX_DEPTH - 1):
            return False
        if len(arguments) <= _SMALL_BYTES:
            return True
        longest = {"code": ErrorCode.TOOL_INVOCATION_FAILED.value, "message": "." * MESSAGE_BYTES}
        return self._outbox.takes(self._step(call, ok=False, result=longest))

    def _begin(self, call: int, tool: str) -> None:
        self._outbox.send(Begin(self._execution_id, call, tool))

    def _done(self, call: Call, size: int, outcome: msgspec.Raw | Failure) -> None:
        self._moved()
        self._intake.own(Place(False, call.call), partial(self._take_tool, call, size, outcome))

    def _take_tool(self, call: Call, size: int, outcome: msgspec.Raw | Failure) -> None:
        ok = True
        try:
            value = self._admit(call, size, outcome)
        except Failure as failure:
            ok, value = False, {"code": failure.code.value, "message": cut(failure.message)}
        self._outbox.record(self._step(call, ok, outcome if ok else value))
        self._end(call.call, value if ok else _error(value))

    def _admit(self, call: Call, size: int, outcome: msgspec.Raw | Failure) -> Any:
        """The result, if it fits on the record and into the context. Failure otherwise."""
        if isinstance(outcome, Failure):
            raise outcome
        content = bytes(outcome)
        require_size(len(content))
        is_small = size <= _SMALL_BYTES and len(content) <= _SMALL_BYTES
        if not is_small and not self._outbox.takes(self._step(call, ok=True, result=outcome)):
            is_long = size + len(content) > _MAX_ARGUMENTS_BYTES
            what = "is too large beside its arguments" if is_long else f"holds {WEIGHT_IN_WORDS}"
            why = f"tool {call.tool!r} failed: the result {what}"
            raise Failure(ErrorCode.TOOL_INVOCATION_FAILED, why)
        if _is_deep(content, MAX_DEPTH):
            why = f"the tool's result: lists and objects are nested more than {MAX_DEPTH} deep"
            raise Failure(ErrorCode.TOOL_INVOCATION_FAILED, why)
        value = msgspec.json.decode(content)
        self._meter.add(value)
        return value

    def _take_value(self, call: Call, value: float) -> None:
        self._outbox.record(self._step(call, ok=True, result=value))
        self._end(call.call, value)

    def _take_recorded(self, step: Step) -> None:
        if step.kind == "tool" and step.ok:
            self._meter.entered(step.result)
        self._end(step.call, step.result if step.ok else _error(step.result))

    def _take_thread(
        self, place: Place, on_record: bool, inner: asyncio.Future[Any], outer: asyncio.Future[Any]
    ) -> None:
        if outer.done():  # the handler gave up waiting for it
            return
        if not on_record:
            self._outbox.record(Step(place.number, "thread", self._intake.answers))
        if inner.cancelled():
            outer.cancel()
        elif (error := inner.exception()) is not None:
            outer.set_exception(error)
        else:
            outer.set_result(inner.result())

    def _step(self, call: Call, ok: bool, result: Any) -> Step:
        assert call.kind in ("tool", "now", "random")
        return Step(call.call, call.kind, self._intake.answers, call.tool, call.arguments, ok, result)


def _error(failure: dict[str, str]) -> ToolError:
    code = error_code(failure["code"])
    return ToolError(failure["code"], code.name if code else failure["code"], failure["message"])


def _plain(request: Any) -> Any:
    return msgspec.json.decode(_encoder.encode(request))


def _is_deep(content: bytes, depth: int) -> bool:
    try:
        return nests_deeper(content, depth)
    except RecursionError:
        return True
