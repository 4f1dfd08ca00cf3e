"""Work that one node at a time does, in shares: who has which share, and how far it has come.

Each live node works out the same division from the list of live nodes, and takes the partitions that fall to it: those
that nobody has, that their owner gives up, or whose owner's lease is over. A partition's record holds its owner and the
position up to which all is done, so whoever follows begins behind it and may do a little again. Two who believe to own
the same one, which a lease cannot rule out, are kept apart by what they do: it must do no harm when done twice.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from functools import lru_cache
from typing import Any, NamedTuple

import msgspec
import structlog
from msgspec import Struct
from nats.errors import Error as NatsError

from l02.bus.background.cancelling import end
from l02.bus.commands.leases import Leases
from l02.bus.connection.bus import Bus
from l02.bus.connection.leader import message_from_leader
from l02.bus.connection.streams import COMMANDS_STREAM, EVENTS_STREAM, PARTITIONS_STREAM, TIMERS_STREAM
from l02.bus.jetstream.put import put
from l02.bus.log.reader import last_sequence
from l02.bus.wire.codec import UNDECODABLE
from l02.bus.wire.subjects import AggregateId, partition_subject

OUTCOMES_PARTITION = "outcomes"
_COMMAND_PARTITIONS = 16
COMMAND_PARTITIONS = tuple(f"commands-{number:02}" for number in range(_COMMAND_PARTITIONS))
DUE_PARTITIONS = tuple(f"dues-{number:02}" for number in range(_COMMAND_PARTITIONS))
# Of which stream each is a share.
_STREAMS = {
    **dict.fromkeys(COMMAND_PARTITIONS, COMMANDS_STREAM),
    **dict.fromkeys(DUE_PARTITIONS, TIMERS_STREAM),
    OUTCOMES_PARTITION: EVENTS_STREAM,
}
# What is due to an aggregate is decided where its commands are.
_FALLS_WITH = dict(zip(DUE_PARTITIONS, COMMAND_PARTITIONS, strict=True))
_STORE_SECONDS = 1.0
_RELEASE_SECONDS = 2.0
# A partition without work of its own is not written at each step of the stream; this is what a start may read in vain.
_STORE_BEHIND = 1000
_log = structlog.get_logger()


@lru_cache(maxsize=4096)
def command_partition(aggregate: AggregateId) -> str:
    """The partition that decides an aggregate's commands; the same for ever."""
    digest = hashlib.blake2b(str(aggregate).encode(), digest_size=8).digest()
    return COMMAND_PARTITIONS[int.from_bytes(digest) % _COMMAND_PARTITIONS]


def due_partition(aggregate: AggregateId) -> str:
    """The partition that decides what timers send an aggregate; it falls to the node that has its commands."""
    return DUE_PARTITIONS[COMMAND_PARTITIONS.index(command_partition(aggregate))]


class _Record(Struct, frozen=True):
    """`owner` is a node, or empty; `position` the stream sequence up to which all is done."""

    owner: str = ""
    position: int = 0


class _Stored(NamedTuple):
    record: _Record
    revision: int


_decoder = msgspec.json.Decoder(_Record)


class Partition:
    """A partition that this node has. Its worker tells what it takes in hand (in order) and what is done."""

    def __init__(self, name: str, stored: _Stored, newest: int) -> None:
        self.name = name
        self.is_closing = False
        """Set when another node is to have it: nothing more is to be taken in hand."""
        self.newest_at_start = newest
        """What the stream holds up to here may have been done before."""
        self._stored = stored
        self._stored_at = 0.0
        self._read = self._taken = stored.record.position
        self._in_hand: dict[int, None] = {}

    @property
    def position(self) -> int:
        """All up to this stream sequence is done."""
        return next(iter(self._in_hand)) - 1 if self._in_hand else self._read

    @property
    def read_up_to(self) -> int:
        """All up to this stream sequence has been taken in hand."""
        return self._read

    @property
    def in_hand(self) -> int:
        """How many messages are taken and not done."""
        return len(self._in_hand)

    @property
    def is_idle(self) -> bool:
        """Whether nothing is in hand."""
        return not self._in_hand

    def take(self, sequence: int) -> bool:
        """Take the message with this sequence in hand; False if that was done before, or is not to be done here."""
        if self.is_closing or sequence <= self._read:
            return False
        self._read = self._taken = sequence
        self._in_hand[sequence] = None
        return True

    def done(self, sequence: int) -> None:
        """That message needs nothing more."""
        self._in_hand.pop(sequence, None)

    def passed(self, sequence: int) -> None:
        """Up to here there is nothing more for this partition than it has taken."""
        if not self.is_closing:
            self._read = max(self._read, sequence)

    def is_due(self, now: float) -> bool:
        """Whether the position is worth storing."""
        stored = self._stored.record.position
        has_worked = self._taken > stored
        news = self.position - stored
        return now - self._stored_at >= _STORE_SECONDS and news > 0 and (has_worked or news >= _STORE_BEHIND)


class Partitions:
    """The partitions of a node. Made by `open_partitions`."""

    def __init__(self, bus: Bus, leases: Leases) -> None:
        self._bus = bus
        self._leases = leases
        self._held: dict[str, Partition] = {}
        self._changed = asyncio.Event()
        self._round = asyncio.Event()
        leases.on_round(self._round.set)

    @property
    def in_hand(self) -> dict[str, int]:
        """How many messages are in hand for each partition that this node has."""
        return {name: partition.in_hand for name, partition in self._held.items()}

    def has(self, name: str) -> bool:
        """Whether this node has the partition."""
        return name in self._held

    async def work(self, names: Iterable[str], work: Callable[[list[Partition]], Coroutine[Any, Any, None]]) -> None:
        """Run `work` on those of the partitions that this node has, until cancelled; anew whenever that changes."""
        wanted = tuple(names)
        async with asyncio.TaskGroup() as tasks:
            while True:
                changed = self._changed
                held = [partition for name in wanted if (partition := self._held.get(name))]
                working = [partition for partition in held if not partition.is_closing]
                running = tasks.create_task(work(working)) if working else None
                try:
                    await changed.wait()
                finally:
                    if running is not None:
                        await end(running)

    async def settle(self) -> None:
        """Take, give up and store what is to be; NATS' errors pass."""
        if not self._leases.is_held:
            if self._held:
                _log.warning("partitions are left: the lease is lost", partitions=len(self._held))
                self._held.clear()
                self._tell()
            return
        live = self._leases.live | {self._leases.node_id}
        mine = {name for name in _STREAMS if _owner(name, live) == self._leases.node_id}
        await asyncio.gather(*(self._try_to_take(name) for name in mine - self._held.keys()))
        await asyncio.gather(*(self._keep(partition, partition.name in mine) for partition in [*self._held.values()]))

    async def settle_or_later(self) -> None:
        """`settle`, but at the next round what cannot be settled now."""
        try:
            await self.settle()
        except (NatsError, TimeoutError) as error:
            _log.warning("partitions cannot be settled now", error=repr(error))

    async def run(self) -> None:
        """`settle_or_later` at each round of the leases, until cancelled."""
        while True:
            await self._round.wait()
            self._round.clear()
            await self.settle_or_later()

    async def release(self) -> None:
        """Give all up, with the positions they have come to; for when nobody works on them any more."""
        for partition in [*self._held.values()]:
            del self._held[partition.name]
            await self._store(partition, owner="")

    async def _try_to_take(self, name: str) -> None:
        stored = await _load(self._bus, name)
        owner = stored.record.owner
        may_take = owner in ("", self._leases.node_id) or (owner not in self._leases.live and self._leases.is_settled)
        if not may_take:
            return
        partition = Partition(name, stored, await last_sequence(self._bus, _STREAMS[name]))
        if owner == self._leases.node_id or await self._store(partition, owner=self._leases.node_id):
            self._held[name] = partition
            self._tell()

    async def _keep(self, partition: Partition, is_mine: bool) -> None:
        if not is_mine:
            partition.is_closing = True
            if partition.is_idle and self._held.pop(partition.name, None) is not None:
                await self._store(partition, owner="")
                self._tell()
        elif partition.is_closing:  # it falls to this node again before the last work was done
            partition.is_closing = False
            self._tell()
        elif partition.is_due(self._now()) and not await self._store(partition, owner=self._leases.node_id):
            del self._held[partition.name]
            self._tell()

    async def _store(self, partition: Partition, *, owner: str) -> bool:
        """Write the record; False if another has written it meanwhile."""
        record = _Record(owner, partition.position)
        subject, raw = partition_subject(partition.name), msgspec.json.encode(record)
        revision = await put(self._bus, subject, raw, after=partition._stored.revision)
        if revision is None:
            _log.warning("a partition has changed hands", partition=partition.name)
            return False
        partition._stored, partition._stored_at = _Stored(record, revision), self._now()
        return True

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


async def _load(bus: Bus, name: str) -> _Stored:
    message = await message_from_leader(bus, PARTITIONS_STREAM, last_on=partition_subject(name))
    if message is None:
        return _Stored(_Record(), 0)
    try:
        return _Stored(_decoder.decode(message.data), message.sequence)
    except UNDECODABLE:
        # Somebody else has put it there. What was done before is done again, which does no harm.
        _log.warning("the record of a partition cannot be read; it begins anew", partition=name)
        return _Stored(_Record(), message.sequence)


async def stored_position(bus: Bus, name: str) -> int:
    """The stream sequence up to which a partition is done, by its record."""
    return (await _load(bus, name)).record.position


@asynccontextmanager
async def open_partitions(bus: Bus, leases: Leases, tasks: asyncio.TaskGroup) -> AsyncIterator[Partitions]:
    """Take part in the division, as long as the context lasts; nobody may work on the partitions beyond its end."""
    partitions = Partitions(bus, leases)
    await partitions.settle_or_later()
    running = tasks.create_task(partitions.run())
    try:
        yield partitions
    finally:
        await end(running)
        try:
            async with asyncio.timeout(_RELEASE_SECONDS):
                await partitions.release()
        except (NatsError, TimeoutError) as error:
            _log.info("partitions are left to whom they fall", error=repr(error))


def _owner(name: str, live: Iterable[str]) -> str:
    """Whom a partition falls to: who comes and goes changes it for no more partitions than must be."""
    share = _FALLS_WITH.get(name, name)
    return max(live, key=lambda node_id: hashlib.blake2b(f"{node_id} {share}".encode(), digest_size=8).digest())
