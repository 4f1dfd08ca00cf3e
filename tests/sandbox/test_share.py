"""Shares of processor time: over some seconds an agent has its share and not more, whatever it consists of."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import msgspec
import psutil
import pytest

from l02.domain.errors import ErrorCode
from l02.domain.specification import RuntimeClass
from l02.handlers.sandbox.confinement.policy import Entry, ProgramEntry, PythonEntry, SandboxPolicy
from l02.handlers.sandbox.process import SandboxedProcess
from l02.handlers.sandbox.sandboxes import Sandboxes
from tests.sandbox.conftest import INSIDE
from tests.sandbox.test_lifecycle import until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="a share is held on Linux only")

# With a name that looks like what follows a name in /proc.
SPIN_TWICE = """
import ctypes, os
ctypes.CDLL(None).prctl(15, b") T 1 1 1")
os.fork(); os.fork()
while True: pass
"""
SECONDS = 5.0
LATE_SECONDS = 0.1
"""Of processors, which a look that comes late on a busy machine may let through; it is made up for later."""
HUNDREDTHS = """
import os, time
for _ in range(30):
    if os.fork() == 0:
        while time.process_time() < 0.02: pass
        os._exit(0)
    os.wait()
"""


@pytest.fixture(autouse=True)
def without_the_kernel(sandboxes: Sandboxes, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would hold them in control groups, if it lets this machine's be divided."""
    monkeypatch.setattr(sandboxes, "_groups", None)


def family(process: SandboxedProcess) -> list[int]:
    root = psutil.Process(process.pid)
    return [root.pid, *(member.pid for member in root.children(recursive=True))]


def used_and_waited(process: SandboxedProcess) -> tuple[float, float]:
    """Seconds that all its threads were on a processor, and were ready for one and had none."""
    stats = [
        path.read_text().split() for pid in family(process) for path in Path(f"/proc/{pid}/task").glob("*/schedstat")
    ]
    return sum(int(stat[0]) for stat in stats) / 1e9, sum(int(stat[1]) for stat in stats) / 1e9


async def has_its_share(process: SandboxedProcess, share: float) -> None:
    """From when it is held for the first time. What a busy machine did not give it is not held against the watch."""
    await until(lambda: process.stopped_seconds > 0 or used_and_waited(process)[1] > 5)
    began, (used, waited) = time.monotonic(), used_and_waited(process)
    await asyncio.sleep(SECONDS)  # this is what is measured
    had, lacked = (after - before for after, before in zip(used_and_waited(process), (used, waited), strict=True))
    seconds = time.monotonic() - began
    assert had <= share * seconds + max(0.1 * share * seconds, LATE_SECONDS)
    assert had + lacked >= 0.9 * share * seconds


async def test_each_kind_of_agent_has_its_share(sandboxes: Sandboxes, policy: SandboxPolicy, tmp_path: Path) -> None:
    program = ProgramEntry((sys.executable, "-c", SPIN_TWICE))
    kinds: list[tuple[RuntimeClass, Entry, int]] = [
        (RuntimeClass.PROCESS, program, 500),
        (RuntimeClass.LANDLOCK, program, 200),
        (RuntimeClass.LANDLOCK, PythonEntry(f"{INSIDE}:spins"), 300),
        (RuntimeClass.PROCESS, PythonEntry(f"{INSIDE}:spins"), 50),
    ]
    agents = [
        (
            await sandboxes.spawn(
                kind, msgspec.structs.replace(policy, cpu_millis=millis), entry, str(tmp_path / "log")
            ),
            millis,
        )
        for kind, entry, millis in kinds
    ]
    await asyncio.gather(*(has_its_share(process, millis / 1000) for process, millis in agents))
    for process, _ in agents:
        process.kill()  # whether it is stopped or not
        assert (await process.wait()).cause == "killed by SIGKILL"
        process.socket.close()


async def test_one_that_uses_less_is_never_stopped_and_one_that_was_goes_on(
    sandboxes: Sandboxes, policy: SandboxPolicy, tmp_path: Path
) -> None:
    code = "import time\nwhile time.process_time() < {}: pass"
    modest, greedy = [
        await sandboxes.spawn(
            RuntimeClass.PROCESS,
            msgspec.structs.replace(policy, cpu_millis=millis),
            ProgramEntry((sys.executable, "-c", code.format(seconds))),
            str(tmp_path / "log"),
        )
        for millis, seconds in ((1000, 0.3), (100, 0.5))
    ]
    for process in (modest, greedy):
        ending = await process.wait()
        process.socket.close()
        assert ending.cause == "exited with code 0"
    assert modest.stopped_seconds == 0
    assert greedy.stopped_seconds > 0


async def test_what_processes_have_used_that_come_and_go_is_counted(
    sandboxes: Sandboxes, policy: SandboxPolicy, tmp_path: Path
) -> None:
    entry = ProgramEntry((sys.executable, "-c", HUNDREDTHS))
    process = await sandboxes.spawn(RuntimeClass.PROCESS, policy, entry, str(tmp_path / "log"))
    seen = 0.0
    while not process.ended:
        process.watch()
        seen = max(seen, process.figures.cpu_seconds)
        await asyncio.sleep(0.005)
    ending = await process.wait()
    process.socket.close()
    assert ending.cpu_seconds >= 0.6
    assert seen == pytest.approx(ending.cpu_seconds, rel=0.15)


async def test_one_that_is_asked_to_end_does_though_it_is_stopped(
    sandboxes: Sandboxes, policy: SandboxPolicy, tmp_path: Path
) -> None:
    slow = msgspec.structs.replace(policy, cpu_millis=100)
    entry = ProgramEntry((sys.executable, "-c", SPIN_TWICE))
    process = await sandboxes.spawn(RuntimeClass.PROCESS, slow, entry, str(tmp_path / "log"))
    await until(lambda: psutil.Process(process.pid).status() == psutil.STATUS_STOPPED)
    process.terminate()
    assert (await process.wait()).cause == "killed by SIGTERM"
    process.socket.close()


async def test_one_that_will_not_be_held_is_ended(sandboxes: Sandboxes, policy: SandboxPolicy, tmp_path: Path) -> None:
    slow = msgspec.structs.replace(policy, cpu_millis=100)
    entry = ProgramEntry((sys.executable, "-c", "while True: pass"))
    process = await sandboxes.spawn(RuntimeClass.PROCESS, slow, entry, str(tmp_path / "log"))
    async with asyncio.timeout(60):
        while not process.ended:
            with suppress(ProcessLookupError):  # it is gone, and its end not told yet
                os.kill(process.pid, signal.SIGCONT)
            await asyncio.sleep(0.002)
    ending = await process.wait()
    process.socket.close()
    assert ending.exceeded is not None
    assert ending.exceeded.code == ErrorCode.CPU_LIMIT_EXCEEDED.value
    assert ending.exceeded.actual >= ending.exceeded.limit
    assert "share of 100m (resource_limits.cpu)" in ending.cause
