"""Calls of an execution that are under way or done on this node; they outlive the agent's process.

One that is answered stays known until the run that is under way has asked for it: it is not on record as that run knows
the record, and must not be made twice. The next run finds it there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, NamedTuple, NoReturn

from msgspec import UnsetType

from l02.bus.wire.agent.divergence import another, request_of
from l02.bus.wire.agent.protocol import Call, CallKind
from l02.domain.agent.execution import SaidText
from l02.domain.errors import ErrorCode, Failure
from l02.handlers.executor.tools.calling import LocalToolLost


class LiveCall(NamedTuple):
    """A call, what had been streamed when it was made, and the work on it."""

    call: Call
    text: SaidText | UnsetType
    task: asyncio.Task[None]


class LiveCalls:
    """By number, those that were not on record when the run began."""

    def __init__(self) -> None:
        self._calls: dict[int, LiveCall] = {}
        self._run = 0

    def get(self, call: Call) -> LiveCall | None:
        """The call, if it was made; Failure E2116 if another one is at its number. The run has asked for it now."""
        if call.call not in self:
            return None
        live = self._calls[call.call]
        if (live.call.kind, request_of(live.call)) != (call.kind, request_of(call)):
            diverged(call, live.call.kind, request_of(live.call))
        self._asked(live)
        return live

    def text(self, number: int) -> SaidText | UnsetType:
        """What had been streamed when it was made."""
        return self._calls[number].text

    def __contains__(self, number: int) -> bool:
        return number in self._calls and not _is_lost(self._calls[number].task)

    def start(self, call: Call, text: SaidText | UnsetType, act: Callable[[], Coroutine[Any, Any, None]]) -> LiveCall:
        """Begin the call, for which the run asks."""
        live = LiveCall(call, text, asyncio.create_task(act()))
        self._calls[call.call] = live
        # Whoever asks for one that failed is told; if nobody does any more, asyncio shall not complain either.
        live.task.add_done_callback(_has_failed)
        self._asked(live)
        return live

    def _asked(self, live: LiveCall) -> None:
        live.task.add_done_callback(partial(self._forget, live.call.call, self._run))

    def _forget(self, number: int, run: int, task: asyncio.Task[None]) -> None:
        """It has ended, and that run had asked for it."""
        if run == self._run and _is_answered(task):
            self._calls.pop(number, None)

    def forget_answered(self) -> None:
        """A run begins, for which all that was answered is on record."""
        self._run += 1
        self._calls = {number: live for number, live in self._calls.items() if not _is_answered(live.task)}

    async def cancel(self, kind: CallKind | None = None) -> None:
        """Stop all of them, or those of this kind: who asks for them from now on has them made again."""
        tasks = [live.task for live in self._calls.values() if kind in (None, live.call.kind)]
        if kind is not None:
            self._calls = {number: live for number, live in self._calls.items() if live.call.kind != kind}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _is_answered(task: asyncio.Task[None]) -> bool:
    return task.done() and not _has_failed(task)


def _has_failed(task: asyncio.Task[None]) -> bool:
    return task.cancelled() or task.exception() is not None


def _is_lost(task: asyncio.Task[None]) -> bool:
    """Whether the call has ended without anyone knowing how."""
    return task.done() and (task.cancelled() or isinstance(task.exception(), LocalToolLost))


def diverged(call: Call, recorded_kind: str, recorded: Any) -> NoReturn:
    """Raise E2116: another call is on record at this one's number."""
    raise Failure(ErrorCode.NONDETERMINISTIC_AGENT, another(call, recorded_kind, recorded))
