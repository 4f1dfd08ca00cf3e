"""Streamed text on its way to those who watch: numbered, never twice, not kept for long.

What the agent says and what models say for it stand one after another. While a model speaks, all else waits for its
turn until the answer is on record, so that after a crash the last of the stream is either on record or to be taken
back; an execution that runs again says nothing that was said before, and goes on with the next number.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

import msgspec
from msgspec import UNSET, UnsetType
from nats.js.api import RawStreamMsg
from nats.js.errors import NotFoundError

from l02.bus.background.news import Pulse
from l02.bus.connection.bus import Bus
from l02.bus.connection.streams import TOKENS_STREAM
from l02.bus.wire.agent.texts import split
from l02.bus.wire.subjects import stream_subject
from l02.domain.agent.execution import JournalEntry, Streamed
from l02.domain.errors import ErrorCode, Failure

OWN_HEADER = "L02-Own"
"""How many of the pieces up to this one are the agent's own; without it all are."""
ANSWER_HEADER = "L02-Answer"
"""The number of the first piece of the model's answer that this one belongs to."""
_MAX_WAITING_CHARACTERS = 4 * 1024 * 1024


class _Piece(msgspec.Struct):
    n: int
    done: bool = False


_decoder = msgspec.json.Decoder(_Piece)


class Answering:
    """A model's answer while it is said. To be ended by `finish`, and `release` once it is on record; or by `void`."""

    def __init__(self, stream: TokenStream) -> None:
        self._stream = stream
        self._waiting: deque[str] = deque()
        self._first: tuple[int, int] | None = None
        self._pieces = 0
        self.is_ended = False
        self._is_speaking = False

    async def say(self, text: str) -> None:
        """Say more of it, now or when it is its turn."""
        if self.is_ended or not text:
            return
        self._waiting.append(text)
        if await self._stream.turn(self):
            await self.speak()

    def finish(self) -> Streamed | UnsetType:
        """It is whole, and will be on record. Where it stands; UNSET if nothing of it was said yet."""
        self.is_ended = True
        if self._first is None:
            return UNSET
        n, own = self._first
        return Streamed(n=n, pieces=self._pieces, own=own)

    async def release(self) -> None:
        """It is on record: others may speak."""
        await self._stream.next_turn(self)

    async def void(self) -> None:
        """What was said of it does not count."""
        self.is_ended = True
        self._waiting.clear()
        if self._first is not None:
            await self._stream.publish({"void_from": self._first[0]})
        await self._stream.next_turn(self)

    async def speak(self) -> bool:
        """It is its turn: say what waits. Whether that is all there will be."""
        if self._is_speaking:
            return False
        self._is_speaking = True
        while self._waiting:
            for piece in split(self._waiting.popleft()):
                if self._first is None:
                    self._first = self._stream.place
                # One that has ended while others spoke is on record: nobody takes it back.
                await self._stream.publish({"delta": piece}, answer=None if self.is_ended else self._first[0])
                self._pieces += 1
        self._is_speaking = False
        return self.is_ended


class TokenStream:
    """The output of one execution."""

    def __init__(
        self,
        bus: Bus,
        agent_id: str,
        execution_id: str,
        *,
        enabled: bool,
        has_run: bool,
        journal: Iterable[JournalEntry] = (),
    ) -> None:
        """`journal` is what was on record when this node took the execution up."""
        self._bus = bus
        self._subject = stream_subject(agent_id, execution_id)
        self._execution_id = execution_id
        self._enabled = enabled
        self._recorded = [entry.streamed for entry in journal if entry.streamed is not UNSET]
        # Only one that has run before may have said something; what a crash right at its start leaves to be said
        # twice, the stream's own window takes out.
        self._is_known = not has_run
        self._looking = asyncio.Lock()
        self._n = 0
        """The number of the next piece."""
        self._own_said = 0
        self._emitted = 0
        self._own = 0
        """How many pieces of its own the present process has said."""
        self._is_done = False
        self._speaker: Answering | None = None
        self._waiting: deque[str | Answering] = deque()
        self._own_waiting = 0
        self._waiting_characters = 0
        self._turns = Pulse()

    @property
    def has_pieces(self) -> bool:
        """Whether anything was said for the agent's process."""
        return self._own > 0 or self._n > 0

    def begin_again(self) -> None:
        """The agent's process is a new one and counts from 0."""
        self._emitted = 0
        self._own = 0

    async def emit(self, n: int, delta: str) -> None:
        """Publish what the agent calls piece `n`, in pieces of at most 65,536 characters with numbers of their own.

        They are cut at the same places whenever the execution runs again. Failure E2004 if the agent has left one out.
        """
        if n != self._emitted:
            raise Failure(ErrorCode.STREAMING_ERROR, f"expected piece {self._emitted} of the stream, got {n}")
        self._emitted += 1
        if not self._enabled:
            return
        await self._know()
        for piece in split(delta):
            self._own += 1
            if self._own > self._own_said + self._own_waiting:
                await self._say_own(piece)

    def answering(self) -> Answering | None:
        """A model begins to answer; None if nothing is streamed."""
        return Answering(self) if self._enabled else None

    async def done(self) -> None:
        """Publish the end; all that is known is on record by now. What a model still says is taken back."""
        if not self._enabled:
            return
        await self._know()
        while (speaker := self._speaker) is not None:
            await (speaker.release() if speaker.is_ended else speaker.void())
        if self._own >= self._own_said and not self._is_done:
            self._is_done = True
            await self.publish({"done": True})

    async def turn(self, answering: Answering) -> bool:
        """Whether it is its turn to speak; if not it will be, later."""
        await self._know()
        if self._is_done:
            return False
        if self._speaker is None:
            self._speaker = answering
        elif self._speaker is not answering and answering not in self._waiting:
            self._waiting.append(answering)
        return self._speaker is answering

    async def next_turn(self, ended: Answering) -> None:
        """It has ended: let the others speak, in the order in which they wanted to."""
        if self._speaker is not ended:
            return
        while self._waiting:
            waiting = self._waiting.popleft()
            if isinstance(waiting, str):
                self._own_waiting -= 1
                self._waiting_characters -= len(waiting)
                await self._publish_own(waiting)
                continue
            self._speaker = waiting
            if not await waiting.speak():
                break
        else:
            self._speaker = None
        self._turns.send()

    @property
    def place(self) -> tuple[int, int]:
        """The number of the next piece, and how many of the agent's own come before it."""
        return self._n, self._own_said

    async def publish(self, message: dict[str, object], *, answer: int | None = None) -> None:
        """Say it with the next number; `answer` is the number of the first piece of the model's answer it is of."""
        n, self._n = self._n, self._n + 1
        headers = {"Nats-Msg-Id": f"{self._execution_id}-{n}"}
        if self._own_said != n + 1:
            headers[OWN_HEADER] = str(self._own_said)
        if answer is not None:
            headers[ANSWER_HEADER] = str(answer)
        await self._bus.client.publish(self._subject, msgspec.json.encode({"n": n, **message}), headers=headers)

    async def _say_own(self, piece: str) -> None:
        while self._speaker is not None and self._waiting_characters + len(piece) > _MAX_WAITING_CHARACTERS:
            await self._turns.next().wait()
        if self._speaker is None:
            await self._publish_own(piece)
        else:
            self._waiting.append(piece)
            self._own_waiting += 1
            self._waiting_characters += len(piece)

    async def _publish_own(self, piece: str) -> None:
        self._own_said += 1
        await self.publish({"delta": piece})

    async def _know(self) -> None:
        if not self._is_known:
            async with self._looking:
                await self._look()

    async def _look(self) -> None:
        """Look at what was said, and take back what a model said that is not on record."""
        if self._is_known:
            return
        # If it is not kept any more, what is on record of it is at least known.
        said = max((_Said(item.n + item.pieces, item.own) for item in self._recorded), default=_Said(0, 0))
        with suppress(NotFoundError, ValueError):
            last = await self._bus.jetstream.get_last_msg(TOKENS_STREAM, self._subject, direct=True)
            said = _said_with(last)
        self._is_known = True
        self._n, self._own_said, self._is_done = said.n, said.own, said.is_done
        if said.answer is not None and all(item.n != said.answer for item in self._recorded):
            await self.publish({"void_from": said.answer})


class _Said(NamedTuple):
    """What was said: the next number, how many pieces were the agent's own, the answer that the last one is of."""

    n: int
    own: int
    is_done: bool = False
    answer: int | None = None


def _said_with(last: RawStreamMsg) -> _Said:
    """Raises ValueError for what is no piece."""
    piece, headers = _decoder.decode(last.data or b""), last.headers or {}
    answer = headers.get(ANSWER_HEADER)
    own = int(headers.get(OWN_HEADER, piece.n + 1))
    return _Said(piece.n + 1, own, piece.done, None if answer is None else int(answer))
