"""Attempts of a Python agent in class `landlock` to get at what is not its own. Each is refused by the kernel."""

from __future__ import annotations

import asyncio
import errno
import os
import secrets
import socket
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from l02.domain.specification import RuntimeClass
from l02.handlers.sandbox.confinement.policy import SandboxPolicy
from tests.sandbox.conftest import Agent, landlock_only

pytestmark = landlock_only

Spawn = Callable[..., Awaitable[Agent]]
REFUSED = {errno.EPERM, errno.EACCES}


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    path = tmp_path / "secret.txt"
    path.write_text("the host's")
    path.chmod(0o644)
    return path


async def test_reads_nothing_outside(spawn: Spawn, secret: Path) -> None:
    agent = await spawn()
    for path in (secret, "/etc/passwd", "/etc/shadow", "/proc/self/environ", f"/proc/{os.getpid()}/environ"):
        assert await agent.refusal("read", str(path)) in REFUSED
    for directory in ("/", "/proc", "/etc", str(secret.parent), str(Path.home()), str(Path.cwd())):
        assert await agent.refusal("listing", directory) in REFUSED


async def test_reads_and_writes_what_its_policy_names(
    spawn: Spawn, policy: SandboxPolicy, tmp_path: Path, secret: Path
) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    agent = await spawn(policy=msgspec.structs.replace(policy, read=(str(secret),), write=(str(shared),)))
    assert await agent.value("read", str(secret)) == "the host's"
    assert await agent.refusal("write", str(secret)) in REFUSED
    await agent.value("write", str(shared / "file"))
    assert (shared / "file").read_text() == "written"


async def test_does_not_read_another_agents_workspace(spawn: Spawn, policy: SandboxPolicy, tmp_path: Path) -> None:
    other_policy = msgspec.structs.replace(policy, workspace=str(tmp_path / "other"))
    owner, other = await spawn(), await spawn(policy=other_policy)
    await owner.value("write", "note.txt")
    note = f"{policy.workspace}/note.txt"
    assert await owner.value("read", note) == "written"
    assert await other.refusal("read", note) in REFUSED
    assert await other.refusal("write", note) in REFUSED
    assert await other.refusal("linked", note, "mine.txt") in {*REFUSED, errno.EXDEV}


async def test_changes_nothing_outside(spawn: Spawn, policy: SandboxPolicy, secret: Path) -> None:
    readable = msgspec.structs.replace(policy, read=(str(secret),))
    agent = await spawn(policy=readable)
    before = secret.stat()
    for name in ("write", "append", "remove", "chmod_of_open_file", "old_date"):
        assert await agent.refusal(name, str(secret)) in REFUSED
    assert await agent.refusal("mode", str(secret), 0o777) in REFUSED
    assert await agent.refusal("write", str(secret.parent / "new.txt")) in REFUSED
    assert await agent.refusal("write", f"/tmp/{secrets.token_hex(8)}") in REFUSED
    after = secret.stat()
    assert (after.st_mode, after.st_mtime, after.st_size) == (before.st_mode, before.st_mtime, before.st_size)


async def test_opens_no_socket(spawn: Spawn) -> None:
    agent = await spawn()
    for family in (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX, socket.AF_NETLINK, socket.AF_PACKET):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW):
            assert await agent.refusal("a_socket", family, kind) == errno.EPERM
    # a datagram pair could be used to send to any address, a stream pair cannot
    assert await agent.refusal("a_pair", socket.SOCK_DGRAM) == errno.EPERM
    await agent.value("a_pair", socket.SOCK_STREAM)


async def test_touches_no_other_process(spawn: Spawn, policy: SandboxPolicy, tmp_path: Path) -> None:
    other = await spawn(policy=msgspec.structs.replace(policy, workspace=str(tmp_path / "other")))
    agent = await spawn()
    for pid in (os.getpid(), other.process.pid, os.getppid(), 1):
        for name in ("kill", "ptrace", "peek", "pidfd", "prlimit", "renice"):
            assert await agent.refusal(name, pid) in {errno.EPERM, errno.ENOSYS}, (name, pid)
    assert await agent.refusal("kill", -1) == errno.EPERM
    assert await other.value("working_directory") == str(tmp_path / "other")


async def test_starts_no_process(spawn: Spawn) -> None:
    agent = await spawn()
    assert await agent.refusal("fork") == errno.EPERM
    assert await agent.refusal("run", "/bin/true") == errno.EPERM
    assert await agent.refusal("daemon") == errno.EPERM
    assert await agent.value("thread") == "hello"
    assert await agent.value("loop") == "hello"


async def test_gains_no_privilege(spawn: Spawn, policy: SandboxPolicy) -> None:
    agent = await spawn()
    assert await agent.refusal("become_root") == errno.EPERM
    assert await agent.refusal("new_namespace") == errno.EPERM
    assert await agent.refusal("outlive") == errno.EPERM
    assert await agent.refusal("all_cores") == errno.EPERM
    await agent.value("write", "program")
    assert await agent.refusal("mode", "program", 0o4755) == errno.EPERM
    assert await agent.refusal("created_with_mode", "setuid", 0o4755) == errno.EPERM
    assert not Path(policy.workspace, "setuid").exists()
    assert (await agent.value("capabilities"))["sets"] == "0"
    if os.getuid() == 0:
        assert (await agent.value("capabilities"))["bounding"] == "0"


@pytest.mark.parametrize("runtime_class", [RuntimeClass.LANDLOCK, RuntimeClass.PROCESS])
async def test_inherits_nothing(
    spawn: Spawn,
    policy: SandboxPolicy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    runtime_class: RuntimeClass,
) -> None:
    monkeypatch.setenv("MODEL_KEY", "not for agents")
    held = os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(held, True)
    try:
        agent = await spawn(runtime_class)
    finally:
        os.close(held)
    environment = await agent.value("environment")
    assert "not for agents" not in environment.values()
    assert environment.keys() == {
        "PATH", "HOME", "TMPDIR", "LANG", "L02_SANDBOX", "GIT_CONFIG_NOSYSTEM", "COLOUR"
    }  # fmt: skip
    assert environment["HOME"] == policy.workspace == await agent.value("working_directory")
    assert await agent.value("descriptors") == {
        "0": "0o20000", "1": "0o100000", "2": "0o100000", "3": "0o140000"
    }  # fmt: skip
    assert Path(policy.workspace).stat().st_mode & 0o777 == 0o700
    assert Path(tmp_path, "agent.log").stat().st_mode & 0o777 == 0o600


async def test_finds_no_earlier_agents_configuration_in_its_zygote(spawn: Spawn, policy: SandboxPolicy) -> None:
    token = secrets.token_hex(16)
    await spawn(policy=msgspec.structs.replace(policy, environment={"TOKEN": token}))
    agent = await spawn(RuntimeClass.PROCESS)
    zygote = int(Path(f"/proc/{agent.process.pid}/stat").read_text().rsplit(")", 1)[1].split()[1])

    def copies() -> int:
        found = 0
        with Path(f"/proc/{zygote}/maps").open() as maps, Path(f"/proc/{zygote}/mem").open("rb", 0) as memory:
            for line in maps:
                span, permissions = line.split()[:2]
                if permissions.startswith("rw") and "[v" not in line:
                    start, end = (int(word, 16) for word in span.split("-"))
                    memory.seek(start)
                    found += memory.read(end - start).count(token.encode())
        return found

    assert await asyncio.to_thread(copies) == 0


async def test_gets_no_more_memory_than_its_limit(spawn: Spawn, policy: SandboxPolicy) -> None:
    agent = await spawn(policy=msgspec.structs.replace(policy, memory_bytes=64 << 20))
    answer = await agent.ask("allocate", 128 << 20)
    assert answer["error"] == "MemoryError"
    assert await agent.value("allocate", 8 << 20) == 8 << 20


async def test_works_otherwise(spawn: Spawn) -> None:
    agent = await spawn()
    assert await agent.value("config") == {"greeting": "hello"}
    assert await agent.value("late_import") == "hello"
    await agent.value("write", "note.txt")
    await agent.value("append", "note.txt")
    assert await agent.value("read", "note.txt") == "writtenmore"
    assert "note.txt" in await agent.value("listing", ".")
    await agent.value("remove", "note.txt")


async def test_a_trusted_process_may_start_others(spawn: Spawn) -> None:
    agent = await spawn(RuntimeClass.PROCESS)
    assert await agent.value("run", "/bin/echo", "hello") == "hello\n"
    assert (await agent.value("capabilities"))["sets"] == "0"


def test_the_tests_attempts_succeed_without_a_sandbox(secret: Path) -> None:
    """The attempts above fail because of the sandbox, not because they are made wrongly."""
    from tests.sandbox import inside

    assert inside.read(str(secret)) == "the host's"
    inside.append(str(secret))
    inside.mode(str(secret), 0o4755)
    inside.chmod_of_open_file(str(secret))
    inside.old_date(str(secret))
    inside.a_socket(socket.AF_INET, socket.SOCK_STREAM)
    inside.a_pair(socket.SOCK_DGRAM)
    sleeper = subprocess.Popen(["/bin/sleep", "60"])
    try:
        inside.renice(sleeper.pid)
        inside.prlimit(sleeper.pid)
        assert inside.peek(sleeper.pid) == 0
        os.close(inside.pidfd(sleeper.pid))
        inside.kill(sleeper.pid)
    finally:
        sleeper.kill()
        sleeper.wait()
