"""Who may ask an endpoint's model now: so many at once, so many and with so many tokens a minute, agents in turn.

Requests and tokens are held to their limits over every 60 seconds, whenever those begin.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from l02.domain.errors import ErrorCode
from l02.handlers.models.endpoints.faults import Fault, late

_MINUTE = 60.0


class Turn:
    """One request: the tokens that it may use, or has used, and when it was let through."""

    __slots__ = ("at", "counted", "granted", "tokens")

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens
        self.at = 0.0
        self.counted = False
        self.granted = asyncio.Event()


class Limiter:
    """Limits may be changed at any time; None is none."""

    def __init__(self, max_waiting: int) -> None:
        self.max_waiting = max_waiting
        self.concurrent: int | None = None
        self.requests: int | None = None
        self.tokens: int | None = None
        self.running = 0
        self.waiting = 0
        self._queues: OrderedDict[str, deque[Turn]] = OrderedDict()
        self._minute: deque[Turn] = deque()
        self._spent = 0
        self._alarm: asyncio.TimerHandle | None = None

    @asynccontextmanager
    async def turn(self, agent_id: str, tokens: int, deadline: float) -> AsyncIterator[Turn]:
        """A turn of this agent for so many tokens at most, if it comes before `deadline` of the loop's clock.

        Raises Fault: E2102 if it does not, E2103 if too many wait.
        """
        turn = Turn(tokens)
        self._queues.setdefault(agent_id, deque()).append(turn)
        self.waiting += 1
        self.grant()
        try:
            if not turn.granted.is_set():
                if self.waiting > self.max_waiting:
                    raise Fault(ErrorCode.RATE_LIMITED, f"{self.max_waiting} calls wait for their turn already")
                try:
                    async with asyncio.timeout_at(deadline):
                        await turn.granted.wait()
                except TimeoutError:
                    raise late("its turn did not come in time", again=False, charged=False, unwell=False) from None
            yield turn
        finally:
            if turn.granted.is_set():
                self.running -= 1
            else:
                self._leave(agent_id, turn)
            self.grant()

    def used(self, turn: Turn, tokens: int) -> None:
        """What the request did use."""
        if turn.counted:
            self._spent += tokens - turn.tokens
        turn.tokens = tokens

    def grant(self) -> None:
        """Let through whoever may go now."""
        now = self._now()
        while self._queues:
            agent_id, queue = next(iter(self._queues.items()))
            pause = self._pause(queue[0].tokens, now)
            if pause is None:
                return
            if pause > 0:
                self._wake_in(pause)
                return
            self._let_through(queue.popleft(), now)
            if queue:
                self._queues.move_to_end(agent_id)
            else:
                del self._queues[agent_id]

    def _let_through(self, turn: Turn, now: float) -> None:
        self.waiting -= 1
        self.running += 1
        turn.at = now
        turn.granted.set()
        if self.requests is not None or self.tokens is not None:
            turn.counted = True
            self._minute.append(turn)
            self._spent += turn.tokens

    def _leave(self, agent_id: str, turn: Turn) -> None:
        queue = self._queues[agent_id]
        queue.remove(turn)
        self.waiting -= 1
        if not queue:
            del self._queues[agent_id]

    def _pause(self, tokens: int, now: float) -> float | None:
        """Seconds until a request for so many tokens may go; None: not before another has ended."""
        if self.concurrent is not None and self.running >= self.concurrent:
            return None
        while self._minute and self._minute[0].at <= now - _MINUTE:
            old = self._minute.popleft()
            old.counted = False
            self._spent -= old.tokens
        pause = 0.0
        if self.requests is not None and len(self._minute) >= self.requests:
            pause = self._minute[len(self._minute) - self.requests].at + _MINUTE - now
        if self.tokens is not None:
            # One for more than there are in a minute goes when it is alone.
            excess = self._spent + min(tokens, self.tokens) - self.tokens
            for turn in self._minute:
                if excess <= 0:
                    break
                excess -= turn.tokens
                pause = max(pause, turn.at + _MINUTE - now)
        return pause

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    def _wake_in(self, seconds: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = asyncio.get_running_loop().call_later(seconds, self.grant)
