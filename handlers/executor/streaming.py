"""Streamed text on its way to those who watch: numbered, never twice, not kept for long."""

from __future__ import annotations

import msgspec
from nats.js.errors import NotFoundError

from l02.bus.connection.bus import Bus
from l02.bus.connection.streams import TOKENS_STREAM
from l02.bus.wire.agent.texts import split
from l02.bus.wire.subjects import stream_subject
from l02.domain.errors import ErrorCode, Failure


class _Piece(msgspec.Struct):
    n: int


_decoder = msgspec.json.Decoder(_Piece)


class TokenStream:
    """The output of one execution. An execution that runs again says nothing that was said before."""

    def __init__(self, bus: Bus, agent_id: str, execution_id: str, *, enabled: bool, has_run: bool) -> None:
        self._bus = bus
        self._subject = stream_subject(agent_id, execution_id)
        self._execution_id = execution_id
        self._enabled = enabled
        # Only one that has run before may have said something; what a crash right at its start leaves to be said
        # twice, the stream's own window takes out.
        self._said: int | None = None if has_run else 0
        self._next = 0
        self._place = 0

    @property
    def has_pieces(self) -> bool:
        """Whether the agent's process has said any."""
        return self._place > 0

    def begin_again(self) -> None:
        """The agent's process is a new one and counts from 0."""
        self._next = 0
        self._place = 0

    async def emit(self, n: int, delta: str) -> None:
        """Publish what the agent calls piece `n`, in pieces of at most 65,536 characters with numbers of their own.

        They are cut at the same places whenever the execution runs again. Failure E2004 if the agent has left one out.
        """
        if n != self._next:
            raise Failure(ErrorCode.STREAMING_ERROR, f"expected piece {self._next} of the stream, got {n}")
        self._next += 1
        if not self._enabled:
            return
        for piece in split(delta):
            n, self._place = self._place, self._place + 1
            if n >= await self._already_said():
                await self._publish(n, {"n": n, "delta": piece})
                self._said = n + 1

    async def done(self) -> None:
        """Publish the end."""
        if self._enabled and self._place >= await self._already_said():
            await self._publish(self._place, {"n": self._place, "done": True})
            self._said = self._place + 1

    async def _publish(self, n: int, message: dict[str, object]) -> None:
        await self._bus.client.publish(
            self._subject, msgspec.json.encode(message), headers={"Nats-Msg-Id": f"{self._execution_id}-{n}"}
        )

    async def _already_said(self) -> int:
        if self._said is None:
            try:
                last = await self._bus.jetstream.get_last_msg(TOKENS_STREAM, self._subject, direct=True)
                self._said = _decoder.decode(last.data or b"").n + 1
            except NotFoundError:
                self._said = 0
        return self._said
