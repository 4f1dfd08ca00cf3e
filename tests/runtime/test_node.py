"""A node as a process: it starts, says why it cannot, stops cleanly, is killed, and continues where it was."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import stat
import subprocess
import sysconfig
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from l02.client.client import Client
from l02.domain.agent.state import Status
from l02.domain.agent.work.effects import EffectRecorded
from l02.domain.agent.work.executions import ExecutionFailed, ExecutionStarted
from l02.domain.errors import ErrorCode, Failure
from tests.effects import effects
from tests.runtime.conftest import history, until, worker

L02 = str(Path(sysconfig.get_path("scripts")) / "l02")
READY_SECONDS = 30


def wait_until(fact: Callable[[], bool], what: str, seconds: float = READY_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not fact():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


@contextmanager
def up(data_dir: Path, *options: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """`l02 up`, ready; killed at the end if the test has not ended it. It has a session bridge only if told so."""
    command = [L02, "up", "--data-dir", str(data_dir), *options]
    environment = {**os.environ, "L02_SESSION_SERVER": "off", **environment}
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment) as process:
        try:
            wait_until(lambda: (data_dir / "l02.json").exists() or process.poll() is not None, "the node is not ready")
            if process.poll() is not None:
                pytest.fail(f"the node ended: {process.stderr.read() if process.stderr else ''}")
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                process.wait(READY_SECONDS)


def refused(*arguments: str, **environment: str) -> str:
    """What `l02 up` says when it cannot start: one line, and an exit code that is not 0."""
    done = subprocess.run(
        [L02, "up", *arguments], capture_output=True, text=True, timeout=60, env={**os.environ, **environment}
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


def runtime(data_dir: Path) -> dict[str, Any]:
    return msgspec.json.decode((data_dir / "l02.json").read_bytes(), type=dict[str, Any])


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def are_gone(processes: list[psutil.Process]) -> bool:
    return not any(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in processes)


def kill(process: subprocess.Popen[str]) -> None:
    """SIGKILL, and wait until all that the node has started is gone too."""
    processes = family(process)
    process.kill()
    process.wait()
    wait_until(lambda: are_gone(processes), "something outlives the node")


def test_a_node_says_how_to_reach_it_and_leaves_nothing(tmp_path: Path) -> None:
    data_dir = tmp_path / "a directory with spaces"
    with up(data_dir) as process:
        said = runtime(data_dir)
        assert said.keys() == {"nats_url", "postgres_url", "http_url", "node_id", "pid"}
        assert said["pid"] == process.pid
        assert stat.S_IMODE((data_dir / "l02.json").stat().st_mode) == 0o600
        assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
        assert "in use by the node with pid" in refused("--data-dir", str(data_dir))
        processes = family(process)
        assert len(processes) >= 3
        process.send_signal(signal.SIGTERM)
        assert process.wait(READY_SECONDS) == 0
    assert not (data_dir / "l02.json").exists()
    assert are_gone(processes)


def test_ctrl_c_stops_it(data_dir: Path) -> None:
    with up(data_dir) as process:
        processes = family(process)
        process.send_signal(signal.SIGINT)
        assert process.wait(READY_SECONDS) == 0
    assert are_gone(processes)


async def test_health_and_metrics_over_http(data_dir: Path) -> None:
    with up(data_dir):
        url = runtime(data_dir)["http_url"]
        for path, part in (("/healthz", b"alive"), ("/readyz", b"ready"), ("/metrics", b"process_cpu_seconds_total")):
            reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
            writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
            answer = await reader.read()
            writer.close()
            assert answer.startswith(b"HTTP/1.1 200")
            assert part in answer


def test_a_port_in_use(data_dir: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert "in use" in refused("--data-dir", str(data_dir), "--http-port", port)


def test_a_file_in_the_place_of_the_directory(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    assert str(tmp_path / "data") in refused("--data-dir", str(tmp_path / "data"))


def test_servers_that_do_not_answer(tmp_path: Path) -> None:
    with ThreadPoolExecutor() as threads:
        without_nats = threads.submit(refused, "--data-dir", str(tmp_path / "a"), L02_NATS_URL="nats://127.0.0.1:1")
        without_postgres = threads.submit(
            refused, "--data-dir", str(tmp_path / "b"), L02_POSTGRES_URL="postgresql://someone@127.0.0.1:1/x"
        )
    assert "no NATS server answers at nats://127.0.0.1:1" in without_nats.result()
    assert "PostgreSQL" in without_postgres.result()


def test_a_setting_that_is_no_number(tmp_path: Path) -> None:
    assert "L02_HTTP_PORT" in refused("--data-dir", str(tmp_path / "a"), L02_HTTP_PORT="many")


async def test_a_killed_node_continues_where_it_was(data_dir: Path) -> None:
    with up(data_dir) as process:
        async with Client.connect(data_dir=data_dir) as client:
            await client.spawn(worker(), id="survivor")
            await client.execute("survivor", {"steps": [["count"]]})
            steps = [["tool", "add", {"a": 1, "b": 1}], ["sleep", 2], ["count"]]
            work = asyncio.create_task(client.execute("survivor", {"steps": steps}))
            await until(client, "survivor", lambda recorded: isinstance(recorded.event, EffectRecorded))
            kill(process)
            with up(data_dir):
                result = await work
                calls = [entry.call for entry in effects(await history(client, "survivor"), "tool")]
    assert result.output == [2, None, 2]
    assert calls == [1]


async def test_a_killed_node_keeps_to_the_time_of_work(data_dir: Path) -> None:
    limits = {"execution_seconds": 4.0}
    with up(data_dir) as process:
        async with Client.connect(data_dir=data_dir) as client:
            await client.spawn(worker(resource_limits=limits), id="late")
            work = asyncio.create_task(client.execute("late", {"steps": [["sleep", 600]]}))
            await until(client, "late", lambda recorded: isinstance(recorded.event, EffectRecorded))
            kill(process)
            with up(data_dir):
                with pytest.raises(Failure) as failed:
                    await work
                ended = await until(client, "late", lambda recorded: isinstance(recorded.event, ExecutionFailed))
                begun = [event for event in await history(client, "late") if isinstance(event, ExecutionStarted)]
                result = await client.execute("late", {"steps": [["tool", "add", {"a": 1, "b": 1}]]})
    assert failed.value.code is ErrorCode.EXECUTION_TIMEOUT
    assert len(begun) == 1 and isinstance(begun[0].deadline, float)
    assert ended.time.timestamp() >= begun[0].deadline, "it has all of its time, also over the death of its node"
    assert result.output == [2]


async def test_time_ends_work_though_no_node_runs_and_its_agent_is_suspended(data_dir: Path) -> None:
    with up(data_dir) as process:
        async with Client.connect(data_dir=data_dir) as client:
            await client.spawn(worker(resource_limits={"execution_seconds": 4.0}), id="late")
            work = asyncio.create_task(client.execute("late", {"steps": [["sleep", 600]]}))
            begun = await until(client, "late", lambda recorded: isinstance(recorded.event, ExecutionStarted))
            await client.suspend("late")
            kill(process)
            assert isinstance(begun.event, ExecutionStarted) and isinstance(begun.event.deadline, float)
            deadline = begun.event.deadline
            wait_until(lambda: time.time() > deadline, "the deadline does not pass")
            with up(data_dir):
                with pytest.raises(Failure) as failed:
                    await work
                shown = await client.get("late")
    assert failed.value.code is ErrorCode.EXECUTION_TIMEOUT
    assert shown.state is Status.SUSPENDED
