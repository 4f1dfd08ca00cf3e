"""`l02 up` and `l02 demo` told to end, at any moment: no process is left of them, and no file of a demonstration."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest

from l02.client.client import Client
from tests.runtime.conftest import worker

ROOT = Path(__file__).parent.parent.parent
SECONDS = 60


@asynccontextmanager
async def program(temporary: Path, *words: str) -> AsyncIterator[Process]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("L02_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "l02.cli", *words),
        stdout=PIPE,
        stderr=PIPE,
        env=environment | {"TMPDIR": str(temporary)},
    )
    try:
        async with asyncio.timeout(SECONDS):
            yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def started(process: Process, count: int) -> None:
    """Wait until the program has so many processes below it."""
    while len(psutil.Process(process.pid).children(recursive=True)) < count:  # noqa: ASYNC110
        await asyncio.sleep(0.01)


async def end(process: Process, number: int) -> int:
    """Tell it to end, and see that every process it ever had meanwhile is gone with it; its exit code."""
    program = psutil.Process(process.pid)
    family = set(program.children(recursive=True))
    assert family, "there is nothing to leave behind"
    process.send_signal(number)
    ending = asyncio.create_task(process.communicate())
    while not ending.done():
        try:
            family.update(program.children(recursive=True))
        except psutil.NoSuchProcess:
            break
        await asyncio.sleep(0.01)
    await ending
    _, left = await asyncio.to_thread(psutil.wait_procs, family, 5)
    assert [process.cmdline() for process in left if process.status() != psutil.STATUS_ZOMBIE] == []
    assert process.returncode is not None
    return process.returncode


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_node_that_has_only_begun(tmp_path: Path, number: int) -> None:
    async with program(tmp_path, "up", "--data-dir", str(tmp_path / "data")) as process:
        await started(process, 1)
        assert await end(process, number) == 0
    assert not (tmp_path / "data" / "l02.json").exists()


async def test_a_node_with_agents_at_work(tmp_path: Path, data_dir: Path) -> None:
    async with program(tmp_path, "up", "--data-dir", str(data_dir)) as process:
        while not (data_dir / "l02.json").exists():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        async with Client.connect(data_dir=data_dir) as client:
            for agent_id in ("a1", "a2", "a3"):
                await client.spawn(worker(), id=agent_id)
                await client.execute(agent_id, {"steps": [["sleep", 600]]}, wait="accepted")
        assert await end(process, signal.SIGTERM) == 0


@pytest.mark.skipif(not (ROOT / ".git").is_dir(), reason="the demonstration needs a git clone, not a worktree")
@pytest.mark.parametrize(
    "line",
    [None, b"four agents are running", b"killed auditor's process", b"asks a person"],
    ids=["begun", "agents at work", "one is killed", "one waits for a person"],
)
async def test_the_demonstration(tmp_path: Path, line: bytes | None) -> None:
    async with program(tmp_path, "demo") as process:
        assert process.stdout
        if line is None:
            await started(process, 1)
        else:
            while line not in (printed := await process.stdout.readline()):
                assert printed, "the demonstration has ended"
        assert await end(process, signal.SIGTERM) == 143
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("l02-demo-")] == []
