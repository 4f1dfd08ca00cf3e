"""Messages that wait to be stored in the same stream at the same time are stored together.

On synced storage a batch of hundreds costs as much as twenty messages that go alone. So a lone one goes alone, a few go
side by side, and more that wait at the same time share one atomic batch, each with an expectation of its own. When a
batch is refused because of one of them (its expectation is not met, its id is a repeated one), each is tried again on
its own. So it is when the server takes no batch at all: it has but so many under way, and a client may begin them and
leave them. Then all go alone for a moment. What belongs together, several events of one decision, cannot: it is refused
and tried again by who wants it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine, Hashable, Sequence
from collections.abc import Set as AbstractSet

from msgspec.structs import replace
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError
from nats.js.errors import APIError

from l02.bus.connection.bus import Bus
from l02.bus.connection.requests import Message, PubAck, Requests
from l02.bus.jetstream.put import UNEXPECTED_CODES

_REPEATED_ID_CODES = (10158, 10201)
"""JetStream's for a message whose id is just being stored, and for a batch with a message whose id it has seen within
the stream's window; alone it is acknowledged."""
_NO_BATCH_CODES = (10174, 10176, 10179, 10199, 10210)
"""JetStream's for a batch that it does not take whatever is in it: batches are not allowed there, it was not whole (its
beginning was refused, or given up), its id is not, it is too large, too many are under way."""
_ALONE_SECONDS = 1.0
MAX_BATCH_MESSAGES = 500
MAX_BATCH_BYTES = 4 * 1024 * 1024
# Measured, synced, 2 cores: a message alone costs the server 0.1 ms of CPU, an atomic batch 1.8 ms and 0.02 ms for each
# message. So a few never make a batch; and while batches are under way none goes alone, so as not to pay for syncs of
# their own: 256 writers then store 20,000 to 28,000/s, else 18,000/s.
_SINGLES_IN_FLIGHT = 16
_BATCHES_IN_FLIGHT = 2
_ACK_SECONDS = 5.0


class GroupCommitClosed(NatsError):
    """Nothing more is stored."""


class _Unit:
    """Messages that are stored together or not at all."""

    __slots__ = ("keys", "messages", "size", "stored")

    def __init__(self, keys: AbstractSet[Hashable], messages: Sequence[Message]) -> None:
        self.keys = keys
        self.messages = messages
        self.size = sum(len(payload) for _, payload, _ in messages)
        self.stored: asyncio.Future[PubAck] = asyncio.get_running_loop().create_future()

    def accept(self, ack: PubAck) -> None:
        if not self.stored.done():
            self.stored.set_result(ack)

    def reject(self, error: Exception) -> None:
        if not self.stored.done():
            self.stored.set_exception(error)


class GroupCommit:
    """One per stream and process; the stream allows atomic batches."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._waiting: deque[_Unit] = deque()
        self._flush_is_due = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._singles = 0
        self._batches = 0
        self._alone_until = 0.0
        self._closed = False

    async def store(self, keys: AbstractSet[Hashable], messages: Sequence[Message]) -> int:
        """Store `messages` side by side, all or none, with expectations in their headers.

        `keys` names every aggregate that something is expected of. Units that share one never share a batch: the server
        holds all expectations of a batch against what there was before it, so the later ones would surely be refused.
        Returns the stream sequence of the last message. Raises as `Requests.publish`, or GroupCommitClosed. If the
        caller is cancelled, they may be stored or not.
        """
        if self._closed:
            raise GroupCommitClosed
        unit = _Unit(keys, messages)
        self._waiting.append(unit)
        self._flush_soon()
        return (await unit.stored).seq

    async def close(self) -> None:
        """Take no more, and wait for what is under way; if cancelled, leave it."""
        self._closed = True
        try:
            while self._tasks or self._flush_is_due:
                await asyncio.wait([*self._tasks, asyncio.create_task(asyncio.sleep(0))])
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Take no more, and leave what is under way."""
        self._closed = True
        for task in self._tasks:
            task.cancel()
        while self._waiting:
            self._waiting.popleft().reject(GroupCommitClosed())

    def _flush_soon(self) -> None:
        """Let those that are ready in the same round of the event loop come together first."""
        if not self._flush_is_due:
            self._flush_is_due = True
            asyncio.get_running_loop().call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_is_due = False
        while self._waiting:
            if self._waiting[0].stored.cancelled():
                self._waiting.popleft()
            elif self._share_batches() and self._batches < _BATCHES_IN_FLIGHT:
                self._batches += 1
                self._start(self._store_together(self._take_batch()))
            elif not self._batches and self._singles < _SINGLES_IN_FLIGHT:
                self._singles += 1
                self._start(self._store_alone(self._waiting.popleft()))
            else:
                return

    def _share_batches(self) -> bool:
        return len(self._waiting) > _SINGLES_IN_FLIGHT and asyncio.get_running_loop().time() >= self._alone_until

    def _start(self, storing: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(storing)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _take_batch(self) -> list[_Unit]:
        """The next ones, in order, as many as fit."""
        batch: list[_Unit] = []
        keys: set[Hashable] = set()
        messages = size = 0
        while self._waiting:
            following = self._waiting[0]
            if following.stored.cancelled():
                self._waiting.popleft()
                continue
            messages += len(following.messages)
            size += following.size
            full = messages > MAX_BATCH_MESSAGES or size > MAX_BATCH_BYTES
            if batch and (full or not keys.isdisjoint(following.keys)):
                break
            batch.append(self._waiting.popleft())
            keys |= following.keys
        return batch

    async def _store_alone(self, unit: _Unit) -> None:
        try:
            await self._settle([unit])
        finally:
            self._singles -= 1
            self._flush_soon()

    async def _store_together(self, batch: list[_Unit]) -> None:
        try:
            await self._settle(batch)
        finally:
            self._batches -= 1
            self._flush_soon()

    async def _settle(self, batch: list[_Unit]) -> None:
        messages = [message for unit in batch for message in unit.messages]
        try:
            ack = await self._requests.publish_together(messages, timeout=_ACK_SECONDS)
        except Exception as error:
            if _code(error) in _NO_BATCH_CODES:
                self._alone_until = asyncio.get_running_loop().time() + _ALONE_SECONDS
            if len(batch) > 1 and _may_go_alone(error):
                for begin in range(0, len(batch), _SINGLES_IN_FLIGHT):
                    few = batch[begin : begin + _SINGLES_IN_FLIGHT]
                    await asyncio.gather(*(self._settle([unit]) for unit in few))
                return
            for unit in batch:
                unit.reject(error)
            return
        except asyncio.CancelledError:
            for unit in batch:
                unit.reject(GroupCommitClosed())
            raise
        for unit in reversed(batch):
            unit.accept(ack)
            ack = replace(ack, seq=ack.seq - len(unit.messages))


def _code(error: Exception) -> int | None:
    return error.err_code if isinstance(error, APIError) else None


def _may_go_alone(error: Exception) -> bool:
    """Whether nothing was stored, and one of them or their being together is to blame."""
    refusals = (*UNEXPECTED_CODES, *_REPEATED_ID_CODES, *_NO_BATCH_CODES)
    return _code(error) in refusals or isinstance(error, MaxPayloadError)


def together(bus: Bus, stream: str) -> GroupCommit:
    """What this process stores in `stream` in common batches, which the stream allows (see `streams`)."""
    commit = bus.shared.get((GroupCommit, stream))
    if commit is None:
        commit = bus.shared[GroupCommit, stream] = GroupCommit(bus.requests)
        bus.on_close.append(commit.abandon)
    assert isinstance(commit, GroupCommit)
    return commit
