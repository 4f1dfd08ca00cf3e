"""Beginnings and ends: every end has its cause, and nothing outlives its node."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
import psutil
import pytest

from l02.domain.agent.resources import ResourceExceeded
from l02.domain.errors import ErrorCode, Failure
from l02.domain.specification import RuntimeClass, TrustLevel
from l02.handlers.sandbox.confinement.policy import ProgramEntry, PythonEntry, SandboxPolicy
from l02.handlers.sandbox.sandboxes import Sandboxes
from tests.sandbox.conftest import INSIDE, Agent, landlock_only

Spawn = Callable[..., Awaitable[Agent]]
CONFINED = pytest.param(RuntimeClass.LANDLOCK, marks=landlock_only)
BOTH = pytest.mark.parametrize("runtime_class", [RuntimeClass.PROCESS, CONFINED])


async def until(fact: Callable[[], bool]) -> None:
    """Wait until something is so, which nothing announces."""
    async with asyncio.timeout(15):
        while not fact():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def gone(*pids: int) -> None:
    """Wait until processes are gone; a zombie is."""
    await until(lambda: not any(map(is_alive, pids)))


def is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@BOTH
@pytest.mark.parametrize(
    ("function", "cause"),
    [
        ("returns", "exited with code 0"),
        ("fails", "exited with code 1"),
        ("ends", "exited with code 3"),
        ("kills_itself", "killed by SIGABRT"),
    ],
)
async def test_an_end_has_its_cause(
    sandboxes: Sandboxes,
    policy: SandboxPolicy,
    tmp_path: Path,
    runtime_class: RuntimeClass,
    function: str,
    cause: str,
) -> None:
    log = tmp_path / "agent.log"
    entry = PythonEntry(f"{INSIDE}:{function}", {"code": 3})
    process = await sandboxes.spawn(runtime_class, policy, entry, str(log))
    ending = await process.wait()
    process.socket.close()
    assert ending.cause == cause
    assert (ending.exit_code is None) != (ending.signal is None)
    assert ending.cpu_seconds > 0
    assert ending.memory_peak_bytes > 1 << 20
    assert not is_alive(process.pid)
    if function == "fails":
        assert "broken on purpose" in log.read_text()
    if function == "returns":
        assert log.read_text() == "said by the agent\n"


@BOTH
async def test_kill_and_terminate(spawn: Spawn, runtime_class: RuntimeClass) -> None:
    first, second = await spawn(runtime_class), await spawn(runtime_class)
    assert first.process.memory_bytes() > 1 << 20
    first.process.kill()
    second.process.terminate()
    assert (await first.process.wait()).cause == "killed by SIGKILL"
    assert (await second.process.wait()).cause == "killed by SIGTERM"
    assert first.process.memory_bytes() == 0
    first.process.kill()  # harmless now


@BOTH
async def test_memory_over_the_limit_is_a_cause_of_its_own(
    spawn: Spawn, policy: SandboxPolicy, runtime_class: RuntimeClass
) -> None:
    agent = await spawn(runtime_class, msgspec.structs.replace(policy, memory_bytes=64 << 20))
    await agent.send("grow", 56 << 20)  # its interpreter and libraries take the rest
    ending = await agent.process.wait()
    peak = f"{ending.memory_peak_bytes / (1 << 20):.1f}Mi"
    assert ending.cause == f"exceeded its memory limit of 64Mi (resource_limits.memory); its peak was {peak}"
    assert ending.exceeded == ResourceExceeded(
        resource_type="memory",
        limit=64 << 20,
        actual=ending.memory_peak_bytes,
        action_taken="terminate",
        code=ErrorCode.MEMORY_LIMIT_EXCEEDED.value,
    )
    assert ending.memory_peak_bytes > 64 << 20


@landlock_only
async def test_what_an_agent_leaves_behind_ends_with_it(spawn: Spawn) -> None:
    agent = await spawn(RuntimeClass.PROCESS)
    left = await agent.value("daemon")
    assert is_alive(left)
    agent.process.kill()
    await agent.process.wait()
    await gone(left)


async def test_a_class_that_is_missing_is_refused_with_the_reason(
    sandboxes: Sandboxes, policy: SandboxPolicy, tmp_path: Path
) -> None:
    available = sandboxes.available()
    assert available.keys() == set(RuntimeClass)
    assert available[RuntimeClass.PROCESS] is None
    assert {RuntimeClass.of(level) for level in TrustLevel} <= available.keys()
    for runtime_class in (RuntimeClass.GVISOR, RuntimeClass.KATA, RuntimeClass.KATA_CC):
        reason = available[runtime_class]
        assert reason
        with pytest.raises(Failure) as caught:
            await sandboxes.spawn(runtime_class, policy, PythonEntry(f"{INSIDE}:returns"), str(tmp_path / "log"))
        assert caught.value.code is ErrorCode.RUNTIME_CLASS_UNAVAILABLE
        assert reason in caught.value.message
    assert not Path(policy.workspace).exists()


async def test_landlock_is_refused_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    from l02.handlers.sandbox.confinement import classes

    monkeypatch.setattr(classes, "IS_LINUX", False)
    assert "Linux" in str(classes.available()[RuntimeClass.LANDLOCK])
    monkeypatch.setattr(classes, "IS_LINUX", True)
    monkeypatch.setattr(classes, "landlock_abi", lambda: 4)
    assert "version 4" in str(classes.available()[RuntimeClass.LANDLOCK])


@BOTH
@pytest.mark.parametrize(
    ("changes", "entry", "words"),
    [
        ({"workspace": "relative"}, PythonEntry(f"{INSIDE}:returns"), "not absolute"),
        ({"memory_bytes": 1}, PythonEntry(f"{INSIDE}:returns"), "memory_bytes"),
        ({"environment": {"A=B": ""}}, PythonEntry(f"{INSIDE}:returns"), "A=B"),
        ({"workspace": "/dev/null/x"}, PythonEntry(f"{INSIDE}:returns"), "NotADirectoryError"),
        ({}, PythonEntry("no_such_module:f"), "no_such_module"),
        ({}, PythonEntry(f"{INSIDE}:no_such_function"), "no_such_function"),
        ({}, ProgramEntry(("no-such-program",)), "no-such-program"),
        ({}, ProgramEntry(()), "empty"),
    ],
)
async def test_what_cannot_be_made_says_why_and_leaves_nothing(
    sandboxes: Sandboxes,
    policy: SandboxPolicy,
    tmp_path: Path,
    runtime_class: RuntimeClass,
    changes: dict[str, object],
    entry: PythonEntry | ProgramEntry,
    words: str,
) -> None:
    with pytest.raises(Failure) as caught:
        await sandboxes.spawn(runtime_class, msgspec.structs.replace(policy, **changes), entry, str(tmp_path / "log"))
    assert caught.value.code is ErrorCode.SANDBOX_CREATION_FAILED
    assert words in caught.value.message


@landlock_only
async def test_a_path_that_is_missing_is_refused(spawn: Spawn, policy: SandboxPolicy) -> None:
    with pytest.raises(Failure) as caught:
        await spawn(policy=msgspec.structs.replace(policy, read=("/no/such/path",)))
    assert "/no/such/path" in caught.value.message


async def test_a_cancelled_spawn_leaves_no_process(sandboxes: Sandboxes, policy: SandboxPolicy, tmp_path: Path) -> None:
    zygote = await sandboxes._zygote()
    before = set(zygote.processes)
    for _ in range(20):
        entry = PythonEntry(f"{INSIDE}:serve")
        task = asyncio.create_task(sandboxes.spawn(RuntimeClass.PROCESS, policy, entry, str(tmp_path / "log")))
        await asyncio.sleep(0)
        if task.cancel():
            with pytest.raises(asyncio.CancelledError):
                await task
        else:  # the machine was busy elsewhere until it was made
            made = await task
            made.kill()
            made.socket.close()
    await until(lambda: not set(zygote.processes) - before)


async def test_many_at_once(sandboxes: Sandboxes, policy: SandboxPolicy, tmp_path: Path) -> None:
    async def one() -> None:
        entry = PythonEntry(f"{INSIDE}:returns")
        process = await sandboxes.spawn(RuntimeClass.PROCESS, policy, entry, str(tmp_path / "log"))
        assert (await process.wait()).exit_code == 0
        process.socket.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(100):
            group.create_task(one())


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux only")
async def test_a_zygote_that_dies_is_replaced_and_takes_its_agents_along(policy: SandboxPolicy, tmp_path: Path) -> None:
    entry = PythonEntry(f"{INSIDE}:serve")
    async with Sandboxes([INSIDE]) as sandboxes:
        agents = [
            Agent(await sandboxes.spawn(runtime_class, policy, entry, str(tmp_path / "log")))
            for runtime_class in (RuntimeClass.LANDLOCK, RuntimeClass.PROCESS)
        ]
        program = ProgramEntry(("/bin/sh", "-c", "setsid sleep 603 & read line"))
        for runtime_class in (RuntimeClass.LANDLOCK, RuntimeClass.PROCESS):
            agents.append(Agent(await sandboxes.spawn(runtime_class, policy, program, str(tmp_path / "log"))))
        left = await agents[1].value("daemon")
        zygote = (await sandboxes._zygote()).zygote.pid
        tree = [member.pid for member in psutil.Process(zygote).children(recursive=True)]
        os.kill(zygote, signal.SIGKILL)
        for agent in agents:
            assert (await agent.process.wait()).cause == "killed together with its zygote"
            agent.process.socket.close()
        await gone(left, *tree)
        again = Agent(await sandboxes.spawn(RuntimeClass.LANDLOCK, policy, entry, str(tmp_path / "log")))
        assert await again.value("thread") == "hello"
        again.process.socket.close()


@pytest.fixture
def strays() -> Iterator[list[int]]:
    """Processes that must be gone when the test ends, and are killed if they are not."""
    pids: list[int] = []
    yield pids
    for pid in pids:
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux only")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_nothing_outlives_a_killed_node(tmp_path: Path, strays: list[int], number: signal.Signals) -> None:
    script = Path(__file__).with_name("node_to_kill.py")
    node = await asyncio.create_subprocess_exec(
        sys.executable,
        str(script),
        str(tmp_path),
        INSIDE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
    )
    assert node.stdout is not None
    assert await node.stdout.readline()

    def family() -> list[psutil.Process]:
        return psutil.Process(node.pid).children(recursive=True)

    await until(lambda: sum(member.name() == "sleep" for member in family()) == 8)
    await until(lambda: sum(member.status() == psutil.STATUS_STOPPED for member in family()) == 2 * 2)
    strays += [member.pid for member in family()]
    assert len(strays) >= 8 + 4 + 1 + 2 * 2
    node.send_signal(number)
    await node.wait()
    await gone(*strays)
