"""The process that migrates is killed at everything it writes, its server at some of it: nothing is lost or doubled."""

from __future__ import annotations

import asyncio
import re
from asyncio import StreamReader, StreamWriter
from urllib.parse import urlsplit

import pytest

from l02.bus.connection.bus import connect
from l02.bus.embedded import EmbeddedNats
from tests.bus.bus_of_before import assert_migrated, leave_bus_of_before
from tests.bus.faults import kill
from tests.bus.migration_to_kill import start_migrating
from tests.bus.toy import TABLE

SERVER_KILLED_AT_EACH = 5
_WRITE = re.compile(
    rb"^H?PUB (\$JS\.API\.STREAM\.(?:CREATE|UPDATE|DELETE)\.\S+|l02_commands_before|l02\.(?:restored|timer|due)\.\S+) "
    rb"[^\r]* (\d+)\r\n",
    re.MULTILINE,
)
_LENGTH = re.compile(rb'"l02_last_sequence":"\d+"')


class Wire:
    """What lies between the process and its server. Of each new write it lets through the answer is held back."""

    def __init__(self, server: EmbeddedNats) -> None:
        self._server = urlsplit(server.url)
        self.seen: set[tuple[bytes, bytes]] = set()
        self.held_back = asyncio.Event()

    async def connect(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Of one connection of the process."""
        from_server, to_server = await asyncio.open_connection(self._server.hostname, self._server.port)
        answers = asyncio.create_task(_pass_on(from_server, writer))
        try:
            while data := await reader.read(1 << 20):
                write = _write_in(data)
                is_new = write is not None and write not in self.seen
                if write is not None and is_new:
                    answers.cancel()
                    self.seen.add(write)
                to_server.write(data)
                await to_server.drain()
                if is_new:
                    self.held_back.set()
        except ConnectionError:
            pass  # one of the two was killed
        finally:
            answers.cancel()
            to_server.close()
            writer.close()


def _write_in(data: bytes) -> tuple[bytes, bytes] | None:
    """What it is about, and what it says; each attempt leaves the old stream a little longer."""
    found = _WRITE.search(data)
    return None if found is None else (found[1], _LENGTH.sub(b"", data[found.end() :][: int(found[2])]))


async def _pass_on(reader: StreamReader, writer: StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 20):
            writer.write(data)
    except ConnectionError:
        pass
    writer.close()


async def killed_at_a_new_write(url: str, wire: Wire) -> bool:
    """Whether the process was killed; else it has come to its end, as nothing was new."""
    wire.held_back.clear()
    process = start_migrating(url)
    try:
        while process.is_alive() and not wire.held_back.is_set():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    finally:
        process.kill()
        process.join()
    assert wire.held_back.is_set() or process.exitcode == 0
    return wire.held_back.is_set()


@pytest.mark.usefixtures("patient_keeper")
async def test_killed_at_all_it_writes_it_comes_to_the_same_end(fresh_nats: EmbeddedNats) -> None:
    async with connect(fresh_nats.url, name="test", aggregates=TABLE) as bus:
        last = await leave_bus_of_before(bus)
        wire = Wire(fresh_nats)
        listener = await asyncio.start_server(wire.connect, "127.0.0.1", 0)
        port = listener.sockets[0].getsockname()[1]
        parts = urlsplit(fresh_nats.url)
        url = parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{port}").geturl()
        async with listener, asyncio.timeout(60):
            while await killed_at_a_new_write(url, wire):
                if len(wire.seen) % SERVER_KILLED_AT_EACH == 0:
                    await kill(fresh_nats)
                    await bus.api("INFO", {})
        assert {
            b"$JS.API.STREAM.DELETE.L02_COMMANDS",
            b"l02.restored.toy.a1.note",
            b"l02.timer.toy.a2.remind",
            b"l02.due.toy.a1.remind",
        } <= {subject for subject, _ in wire.seen}
        print(f"{len(wire.seen)} kills", end=" ")
        await assert_migrated(bus, last)
