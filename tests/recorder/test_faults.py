"""The server is killed under load, and answers are lost: what was inserted is there once, in order, and seen by all."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from eventsourcing.persistence import IntegrityError, StoredEvent, Tracking

from l02.bus.embedded import EmbeddedNats
from l02.bus.recorder import JetStreamProcessRecorder
from tests.bus.faults import kill
from tests.recorder.conftest import Factories, process_recorder

ORIGINATOR = UUID(int=1)


class Work:
    """Writers, and a processor that writes down the ids it has seen, until they are told to stop."""

    def __init__(self, source: JetStreamProcessRecorder, target: JetStreamProcessRecorder) -> None:
        self.source = source
        self.target = target
        self.stopping = threading.Event()
        self.acknowledged: dict[int, tuple[UUID, int]] = {}

    def write(self, originator: UUID) -> None:
        version = 0
        while not self.stopping.is_set():
            versions = range(version + 1, version + 1 + version % 3 + 1)
            ids = self.source.insert_events([StoredEvent(originator, number, "t", b"") for number in versions])
            assert ids is not None
            self.acknowledged |= {i: (originator, number) for i, number in zip(ids, versions, strict=True)}
            version = versions[-1]

    def process(self) -> None:
        with self.source.subscribe(self.target.max_tracking_id("source")) as subscription:
            for notification in subscription:
                seen = StoredEvent(ORIGINATOR, notification.id, "seen", b"")
                self.target.insert_events([seen], tracking=Tracking("source", notification.id))
                if self.stopping.is_set() and notification.id == self.source.max_notification_id():
                    return


@pytest.mark.usefixtures("patient_keeper")
@pytest.mark.parametrize("fresh_nats", ["synced"], indirect=True)
async def test_killed_under_load_nothing_is_lost_or_done_twice(fresh_nats: EmbeddedNats, factories: Factories) -> None:
    source = await asyncio.to_thread(lambda: process_recorder(factories(NATS_URL=fresh_nats.url)))
    target = await asyncio.to_thread(
        lambda: process_recorder(factories(NATS_URL=fresh_nats.url, NATS_STREAM="TARGET", NATS_SUBJECT_PREFIX="target"))
    )
    work = Work(source, target)
    chance = random.Random(1)
    async with asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(asyncio.to_thread(work.write, UUID(int=number)))
        group.create_task(asyncio.to_thread(work.process))
        try:
            for _ in range(5):
                await asyncio.sleep(chance.uniform(0.1, 0.5))
                await kill(fresh_nats)
        finally:
            work.stopping.set()
    stored = await asyncio.to_thread(source.select_notifications, None, 1_000_000)
    seen = await asyncio.to_thread(target.select_events, ORIGINATOR)
    assert work.acknowledged == {item.id: (item.originator_id, item.originator_version) for item in stored}
    assert [item.originator_version for item in seen] == [item.id for item in stored]
    print(f"{len(stored)} acknowledged and processed")


class Proxy:
    """Passes connections on, but drops the acknowledgement of an insert, and the connection with it."""

    def __init__(self, server_url: str) -> None:
        self._server = urlsplit(server_url)
        self.cuts = 0
        self.drop_next = False
        self.meanwhile: Callable[[], object] = lambda: None

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[str]:
        async with await asyncio.start_server(self._serve, "127.0.0.1", 0) as listener:
            port = listener.sockets[0].getsockname()[1]
            yield f"nats://{self._server.username}:{self._server.password}@127.0.0.1:{port}"

    async def _serve(self, client: asyncio.StreamReader, to_client: asyncio.StreamWriter) -> None:
        server, to_server = await asyncio.open_connection(self._server.hostname, self._server.port)
        try:
            async with asyncio.TaskGroup() as group:
                upwards = group.create_task(_pass_on(client, to_server))
                while data := await server.read(65536):
                    if self.drop_next and b'"seq":' in data:
                        self.drop_next = False
                        self.cuts += 1
                        await asyncio.to_thread(self.meanwhile)
                        break
                    to_client.write(data)
                upwards.cancel()
        finally:
            to_server.close()
            to_client.close()


async def _pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    while data := await source.read(65536):
        target.write(data)
    target.close()


def event(version: int) -> StoredEvent:
    return StoredEvent(ORIGINATOR, version, "t", b"state")


Insert = Callable[[JetStreamProcessRecorder], object]


@pytest.mark.parametrize(
    ("insert", "ids"),
    [
        (lambda recorder: recorder.insert_events([event(1)]), [1]),
        (lambda recorder: recorder.insert_events([event(1), event(2)]), [1, 2]),
        (lambda recorder: recorder.insert_events([event(1)], tracking=Tracking("up", 1)), [2]),
        (lambda recorder: recorder.insert_tracking(Tracking("up", 1)), None),
    ],
    ids=["one event", "two events", "event and tracking", "tracking"],
)
@pytest.mark.parametrize("overtaken", [False, True])
async def test_an_insert_whose_answer_is_lost_counts_once(
    nats_url: str, factories: Factories, insert: Insert, ids: list[int] | None, overtaken: bool
) -> None:
    proxy = Proxy(nats_url)
    direct = await asyncio.to_thread(lambda: process_recorder(factories()))

    def overtake() -> None:
        direct.insert_events([event(3)], tracking=Tracking("up", 3))

    async with proxy.listening() as url:
        recorder = await asyncio.to_thread(lambda: process_recorder(factories(NATS_URL=url)))
        proxy.drop_next = True
        if overtaken:
            proxy.meanwhile = overtake
        assert await asyncio.to_thread(insert, recorder) == ids
        assert proxy.cuts == 1
        with pytest.raises(IntegrityError):
            await asyncio.to_thread(insert, recorder)
        # Its connection ends before the listener does.
        await asyncio.to_thread(recorder.worker.close)
    stored = await asyncio.to_thread(direct.select_notifications, None, 100)
    assert [item.id for item in stored][: len(ids or [])] == (ids or [])
    assert len(stored) == len(ids or []) + overtaken
