"""Calls of an execution that are under way or done on this node; they outlive the agent's process."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, NoReturn

from l02.bus.wire.agent.divergence import another, request_of
from l02.bus.wire.agent.protocol import Call
from l02.domain.errors import ErrorCode, Failure
from l02.handlers.executor.tools.calling import LocalToolLost


class LiveCalls:
    """By number, those that are not known to be answered."""

    def __init__(self) -> None:
        self._calls: dict[int, tuple[Call, asyncio.Task[None]]] = {}

    def get(self, call: Call) -> asyncio.Task[None] | None:
        """The call, if it is under way; Failure E2116 if another one is at its number."""
        if call.call not in self:
            return None
        known, task = self._calls[call.call]
        if (known.kind, request_of(known)) != (call.kind, request_of(call)):
            diverged(call, known.kind, request_of(known))
        return task

    def __contains__(self, number: int) -> bool:
        return number in self._calls and not _is_lost(self._calls[number][1])

    def start(self, call: Call, act: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        """Begin the call; it is forgotten once it has been answered."""
        task = asyncio.create_task(act())
        self._calls[call.call] = (call, task)
        task.add_done_callback(lambda done: self._forget(call.call, done))
        return task

    def _forget(self, number: int, task: asyncio.Task[None]) -> None:
        # Whoever asks for one that failed is told; if nobody does any more, asyncio shall not complain either.
        if not task.cancelled() and task.exception() is None:
            del self._calls[number]

    async def cancel(self) -> None:
        """Stop all of them."""
        tasks = [task for _, task in self._calls.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _is_lost(task: asyncio.Task[None]) -> bool:
    """Whether the call has ended without anyone knowing how."""
    return task.done() and (task.cancelled() or isinstance(task.exception(), LocalToolLost))


def diverged(call: Call, recorded_kind: str, recorded: Any) -> NoReturn:
    """Raise E2116: another call is on record at this one's number."""
    raise Failure(ErrorCode.NONDETERMINISTIC_AGENT, another(call, recorded_kind, recorded))
