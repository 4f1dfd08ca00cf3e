"""Which nodes are alive: each holds a lease that it renews, and that the server lets expire when it does not.

The server's clock decides, so no two nodes need agree on the time. A lease that has expired is no lock: a node that was
stopped and goes on may act for a moment as if it had one. What it then wants to write is kept out by the expectation at
the event store and by the node that stands in an agent's state.
"""

from __future__ import annotations

import asyncio
import math
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
import stamina
import structlog
from msgspec import Struct
from nats.errors import Error as NatsError

from l02.bus.background.cancelling import end
from l02.bus.connection.bus import API_SECONDS, Bus
from l02.bus.connection.leader import answer_of, message_from_leader
from l02.bus.connection.streams import LEASES_STREAM
from l02.bus.jetstream.put import put
from l02.bus.wire.codec import UNDECODABLE
from l02.bus.wire.subjects import lease_filter, lease_subject

LEASE_SECONDS = 3
"""How long a lease lasts without being renewed. The server takes whole seconds and looks once a second."""
_RENEW_SECONDS = 0.5
_log = structlog.get_logger()


class LeaseTaken(Exception):
    """Another process runs as this node."""


class _Holder(Struct, frozen=True):
    """`token` tells processes apart, `place` where they run: a node that begins anew in its place is the only one."""

    node_id: str
    place: str
    token: str


_decoder = msgspec.json.Decoder(_Holder)


class Leases:
    """This node's lease, and who else has one. Made by `hold_lease`."""

    def __init__(self, bus: Bus, node_id: str, place: str) -> None:
        self._bus = bus
        self._holder = _Holder(node_id, place, uuid.uuid4().hex)
        self._revision = 0
        self._held_since = self._renewed_at = -math.inf
        self._listeners: list[Callable[[], None]] = []
        self.node_id = node_id
        self.term = 0
        """How often this node has come to count as alive. In between, what belonged to it may have become another's."""
        self.live: frozenset[str] = frozenset()
        """The nodes whose lease holds, as far as this one knows."""

    @property
    def is_held(self) -> bool:
        """Whether this node counts as alive."""
        return self._now() - self._renewed_at < LEASE_SECONDS

    async def held(self) -> int:
        """Wait until this node counts as alive, by its own clock; the `term` in which it does."""
        while True:
            if self.is_held:
                return self.term
            await asyncio.sleep(_RENEW_SECONDS)

    @property
    def is_settled(self) -> bool:
        """Whether this node may take what belonged to nodes that are not alive.

        Not before it has held its lease for as long as one lasts: when the server was away all leases are over, and the
        others need a moment to say that they are there.
        """
        return self.is_held and self._now() - self._held_since > LEASE_SECONDS

    async def others(self) -> frozenset[str]:
        """The other nodes that are alive. Before it says that there are none, each has the time to say that it is."""
        while True:
            others = self.live - {self.node_id}
            if others or self.is_settled:
                return others
            await asyncio.sleep(_RENEW_SECONDS)

    def on_round(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each look at the leases, twice a second."""
        self._listeners.append(listener)

    async def acquire(self) -> None:
        """Take the lease. Raises LeaseTaken if a process elsewhere holds that of the same node.

        While a cluster chooses a leader it is tried again; NATS' errors are raised after `API_SECONDS`.
        """
        async for attempt in stamina.retry_context(
            on=lambda error: isinstance(error, NatsError | TimeoutError) and not self._bus.client.is_closed,
            attempts=None,
            timeout=API_SECONDS,
            wait_initial=_RENEW_SECONDS,
            wait_max=_RENEW_SECONDS,
        ):
            with attempt:
                await self._acquire()

    async def _acquire(self) -> None:
        found = await self._stored()
        if found is not None:
            holder, self._revision = found
            if holder.place != self._holder.place:
                raise LeaseTaken(
                    f"{self.node_id} already runs at {holder.place}; if this data directory is a copy of that one, "
                    "delete the file node_id in it"
                )
        await self._renew()
        await self._look()

    async def keep(self) -> None:
        """Renew the lease and look at the others', until cancelled."""
        while True:
            await asyncio.sleep(_RENEW_SECONDS)
            try:
                await self._renew()
                await self._look()
            except (NatsError, TimeoutError) as error:
                _log.warning("the lease cannot be renewed now", node_id=self.node_id, error=repr(error))
                continue
            for listener in self._listeners:
                listener()

    async def release(self) -> None:
        """Give the lease up, so that others need not wait for its end."""
        self._renewed_at = -math.inf
        await self._bus.api(f"STREAM.PURGE.{LEASES_STREAM}", {"filter": lease_subject(self.node_id)})

    async def _renew(self) -> None:
        holder, subject = msgspec.json.encode(self._holder), lease_subject(self.node_id)
        asked_at = self._now()  # the answer may be read long after the server has begun to count
        revision = await put(
            self._bus, subject, holder, after=self._revision, headers={"Nats-TTL": f"{LEASE_SECONDS}s"}
        )
        if revision is None:
            await self._after_conflict()
            return
        if not self.is_held:
            self._held_since = self._now()
            self.term += 1
        self._revision, self._renewed_at = revision, asked_at

    async def _after_conflict(self) -> None:
        """The lease is not as this node left it: it has expired, or an answer was lost, or another process has it."""
        found = await self._stored()
        if found is None:
            _log.warning("the lease had expired; joining again", node_id=self.node_id)
            self._renewed_at, self._revision = -math.inf, 0
            return
        holder, self._revision = found
        if holder.token != self._holder.token:
            raise LeaseTaken(f"another process runs as {self.node_id}, at {holder.place}; stop one of them")

    async def _look(self) -> None:
        wanted = {"subjects_filter": lease_filter()}
        info = await answer_of(self._bus, f"STREAM.INFO.{LEASES_STREAM}", wanted, within=LEASE_SECONDS)
        self.live = frozenset(subject.rpartition(".")[2] for subject in info["state"].get("subjects") or ())

    async def _stored(self) -> tuple[_Holder, int] | None:
        """Who has this node's lease, and its revision."""
        message = await message_from_leader(
            self._bus, LEASES_STREAM, last_on=lease_subject(self.node_id), within=LEASE_SECONDS
        )
        if message is None:
            return None
        try:
            return _decoder.decode(message.data), message.sequence
        except UNDECODABLE:
            # Somebody else has put it there, who is no node; so the lease goes on.
            _log.warning("this node's lease cannot be read; it is taken again", node_id=self.node_id)
            return self._holder, message.sequence

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


@asynccontextmanager
async def hold_lease(bus: Bus, node_id: str, place: str, tasks: asyncio.TaskGroup) -> AsyncIterator[Leases]:
    """Be alive as `node_id`, as long as the context lasts. `keep` runs in `tasks`, which it ends if it fails."""
    leases = Leases(bus, node_id, place)
    await leases.acquire()
    keeping = tasks.create_task(leases.keep())
    try:
        yield leases
    finally:
        await end(keeping)
        try:
            async with asyncio.timeout(_RENEW_SECONDS * 2):
                await leases.release()
        except (NatsError, TimeoutError) as error:
            _log.info("the lease is left to expire", node_id=node_id, error=repr(error))
