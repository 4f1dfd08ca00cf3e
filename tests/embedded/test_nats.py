"""The embedded nats-server: what it keeps, who gets in, and that it comes back."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import nats
import psutil
import pytest
from nats.errors import Error, NoServersError

from l02.bus.embedded import EmbeddedNats, ServerError
from l02.bus.embedded.endpoint import HOST
from tests.embedded.support import alive, connected, mode, until


async def _store(url: str, payload: bytes) -> None:
    async with connected(url) as client:
        stream = client.jetstream()
        await stream.add_stream(name="KEPT", subjects=["kept"])
        await stream.publish("kept", payload)


async def _stored(url: str) -> object:
    async with connected(url) as client:
        return (await client.jetstream().get_last_msg("KEPT", "kept")).data


@pytest.mark.parametrize("name", ["with space and ' quote", "long/" * 40 + "end"])
async def test_data_port_and_password_survive_a_restart(tmp_path: Path, name: str) -> None:
    directory = tmp_path / name
    directory.mkdir(parents=True)
    server = EmbeddedNats(directory)
    first = await server.start()
    await _store(first, b"1")
    pid = server.pid
    await server.stop()
    assert not alive(pid)

    again = EmbeddedNats(directory)
    assert await again.start() == first
    assert await _stored(first) == b"1"
    await again.stop()


async def test_is_configured_as_promised(tmp_path: Path) -> None:
    server = EmbeddedNats(tmp_path / "nats")
    async with connected(await server.start()) as client:
        assert client.max_payload == 8 * 1024 * 1024
        listening = psutil.Process(server.pid).net_connections("inet")
        assert {entry.laddr.ip for entry in listening} == {HOST}
    assert json.loads((server.directory / "server.conf").read_text())["jetstream"]["sync_interval"] == "always"
    assert mode(server.directory) == 0o700
    files = [path for path in server.directory.iterdir() if path.is_file()]
    assert {path.name for path in files} == {"endpoint.json", "server.conf", "server.log", "server.pid"}
    assert {mode(path) for path in files} == {0o600}
    await server.stop()


@pytest.mark.parametrize("credentials", ["", "l02:wrong@"])
async def test_nobody_enters_without_the_password(fresh_nats: EmbeddedNats, credentials: str) -> None:
    url = f"nats://{credentials}{HOST}:{urlsplit(fresh_nats.url).port}"
    with pytest.raises(Error, match=r"(?i)authorization violation"):
        await nats.connect(url, allow_reconnect=False, error_cb=_ignore)


async def _ignore(_: Exception) -> None:
    """What the test asserts is raised as well."""


@pytest.mark.parametrize("fresh_nats", ["synced"], indirect=True)
async def test_killed_server_comes_back_with_its_data_and_clients(fresh_nats: EmbeddedNats) -> None:
    await _store(fresh_nats.url, b"1")
    client = await nats.connect(fresh_nats.url, reconnect_time_wait=0.02, error_cb=_ignore)
    url, killed = fresh_nats.url, fresh_nats.pid
    os.kill(killed, signal.SIGKILL)
    await until(lambda: _is_another(fresh_nats, killed))
    assert fresh_nats.url == url
    await until(lambda: client.is_connected)
    assert (await client.jetstream().get_last_msg("KEPT", "kept")).data == b"1"
    await client.close()


def _is_another(server: EmbeddedNats, killed: int) -> bool:
    try:
        return server.pid != killed
    except RuntimeError:
        return False


async def test_gives_up_and_says_why(tmp_path: Path) -> None:
    server = EmbeddedNats(tmp_path)
    server.restart_delays = (0.0, 0.01)
    await server.start()
    os.kill(server.pid, signal.SIGKILL)
    (tmp_path / "server.conf").write_text("port: nonsense {")
    failure = await asyncio.wait_for(server.wait_failed(), 60)
    assert str(failure).startswith("nats-server ended at its start: nats-server: Parse error")
    assert "\n" not in str(failure)
    await server.stop()


async def test_taken_port_is_replaced(tmp_path: Path) -> None:
    server = EmbeddedNats(tmp_path / "nats")
    first = urlsplit(await server.start())
    await server.stop()
    with socket.create_server((HOST, first.port or 0)):
        second = urlsplit(await server.start())
    assert (second.password, second.port != first.port) == (first.password, True)
    await server.stop()


async def test_failed_start_shows_the_log_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "jetstream").write_text("not a directory")
    server = EmbeddedNats(tmp_path)
    with pytest.raises(
        ServerError, match=r"nats-server ended at its start: .*storage directory is not a directory.*server\.log"
    ):
        await server.start()
    assert not (tmp_path / "server.pid").exists()


async def test_cancelled_start_leaves_nothing(tmp_path: Path) -> None:
    server = EmbeddedNats(tmp_path)
    start = asyncio.create_task(server.start())
    await until((tmp_path / "server.pid").exists)
    await until((tmp_path / "server.pid").read_text)
    pid = int((tmp_path / "server.pid").read_text())
    start.cancel()
    await asyncio.wait([start])
    assert not alive(pid)


class _Forgetful(EmbeddedNats):
    """The look at it that succeeds loses a cancellation, as those of nats-py and asyncpg can on Python 3.11."""

    async def _is_ready(self) -> bool:
        if not await super()._is_ready():
            return False
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return True


async def test_a_start_that_is_cancelled_in_its_last_look_leaves_nothing(tmp_path: Path) -> None:
    server = _Forgetful(tmp_path)
    start = asyncio.create_task(server.start())
    await asyncio.wait([start])
    assert start.cancelled()
    assert not (tmp_path / "server.pid").exists()


async def test_server_left_by_a_killed_node_is_stopped_first(tmp_path: Path) -> None:
    server = EmbeddedNats(tmp_path)
    url = await server.start()
    arguments = psutil.Process(server.pid).cmdline()
    await server.stop()
    leftover = await asyncio.create_subprocess_exec(*arguments, stderr=subprocess.DEVNULL)
    (tmp_path / "server.pid").write_text(f"{leftover.pid}\n")

    assert await server.start() == url
    assert await leftover.wait() in (0, 1, -signal.SIGTERM)
    assert server.pid != leftover.pid
    await server.stop()


async def test_an_innocent_process_with_its_number_lives(tmp_path: Path) -> None:
    conf = str(tmp_path / "server.conf")
    innocent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "import sys; sys.stdin.read()", conf, stdin=subprocess.PIPE
    )
    (tmp_path / "server.pid").write_text(f"{innocent.pid}\n")
    server = EmbeddedNats(tmp_path)
    await server.start()
    await server.stop()
    assert innocent.returncode is None
    innocent.kill()
    await innocent.wait()


async def test_unreachable_after_stop(tmp_path: Path) -> None:
    server = EmbeddedNats(tmp_path)
    url = await server.start()
    await server.stop()
    with pytest.raises(NoServersError):
        await nats.connect(url, max_reconnect_attempts=1, reconnect_time_wait=0, error_cb=_ignore)
    with pytest.raises(RuntimeError, match="not running"):
        assert server.pid
