"""From inside a sandbox to a peer outside: nothing arrives there but what the specification names."""

from __future__ import annotations

import asyncio
import errno
import json
import platform
import signal
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from l02.domain.specification import RuntimeClass
from l02.handlers.sandbox.confinement.policy import ProgramEntry, SandboxPolicy
from l02.handlers.sandbox.confinement.syscalls import SYSCALLS
from l02.handlers.sandbox.program import program_argv, program_environment
from l02.handlers.sandbox.sandboxes import Sandboxes
from tests.sandbox import reach
from tests.sandbox.conftest import Agent, landlock_only
from tests.sandbox.listeners import Listeners

pytestmark = landlock_only

Spawn = Callable[..., Awaitable[Agent]]
SCRIPT = str(Path(reach.__file__))
NETLINK, UNIX = 16, 1
NEW_CALLS = {
    "io_uring_setup": 425, "io_uring_enter": 426, "io_uring_register": 427, "open_tree": 428, "move_mount": 429,
    "fsopen": 430, "fsmount": 432, "fspick": 433, "clone3": 435, "openat2": 437, "process_madvise": 440,
    "mount_setattr": 442, "quotactl_fd": 443, "memfd_secret": 447, "process_mrelease": 448, "listmount": 458,
    "unheard of": 600, "of another age": 4000,
}  # fmt: skip
OLD_CALLS = (
    "ptrace", "process_vm_readv", "process_vm_writev", "pidfd_getfd", "shmget", "semget", "msgget", "mq_open", "keyctl",
    "add_key", "request_key", "bpf", "userfaultfd", "perf_event_open", "unshare", "setns", "mount", "umount2",
    "pivot_root", "chroot", "name_to_handle_at", "open_by_handle_at", "fanotify_init", "kcmp", "reboot", "swapoff",
)  # fmt: skip
INT_80, X32 = [0xB8, 20, 0, 0, 0, 0xCD, 0x80, 0xC3], [0xB8, 39, 0, 0, 0x40, 0x0F, 0x05, 0xC3]
"""getpid by i386's entry and by x32's number."""


@pytest.fixture
def listeners(tmp_path: Path) -> Iterator[Listeners]:
    made = Listeners(str(tmp_path))
    yield made
    made.close()


def attack(policy: SandboxPolicy, listeners: Listeners) -> dict[str, Any]:
    """Run all attempts as a program in class `landlock`, the way tool servers are run."""
    readable = msgspec.structs.replace(policy, read=(SCRIPT,))
    command = [sys.executable, SCRIPT, json.dumps(listeners.targets)]
    argv = program_argv(RuntimeClass.LANDLOCK, readable, command)
    done = subprocess.run(
        argv, env=program_environment(readable), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    outcome: dict[str, Any] = json.loads(done.stdout)
    return outcome


def test_without_a_sandbox_the_attempts_arrive(listeners: Listeners) -> None:
    reached = reach.reached(json.loads(json.dumps(listeners.targets)))
    assert {"tcp/262 _connect", "tcp/0 _send", "tcp6/262 _listen", "udp/0", "path/1", "abstract datagrams"} <= {
        *reached
    }
    assert listeners.arrived() == list(listeners.targets)


async def test_an_agent_reaches_nobody(spawn: Spawn, listeners: Listeners) -> None:
    agent = await spawn()
    assert await agent.value("reached", listeners.targets) == []
    assert await agent.value("sockets") == []
    assert await agent.value("pairs") == [[UNIX, 1]]
    assert listeners.arrived() == []


async def test_a_program_without_network_reaches_nobody(policy: SandboxPolicy, listeners: Listeners) -> None:
    outcome = await asyncio.to_thread(attack, policy, listeners)
    assert outcome["reached"] == []
    # sandlock answers for the kernel's routing socket, over a pair of its own.
    assert {(family, protocol, truly) for family, _, protocol, truly in outcome["sockets"]} == {(NETLINK, 0, UNIX)}
    assert outcome["pairs"] == [[UNIX, 1], [UNIX, 5]]
    assert listeners.arrived() == []


async def test_a_program_agent_reaches_nobody(
    sandboxes: Sandboxes, policy: SandboxPolicy, listeners: Listeners, tmp_path: Path
) -> None:
    readable = msgspec.structs.replace(policy, read=(SCRIPT,))
    entry = ProgramEntry((sys.executable, SCRIPT, json.dumps(listeners.targets)))
    process = await sandboxes.spawn(RuntimeClass.LANDLOCK, readable, entry, str(tmp_path / "log"))
    assert (await process.wait()).exit_code == 0
    process.socket.close()
    assert json.loads((tmp_path / "log").read_text())["reached"] == []
    assert listeners.arrived() == []


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_program_reaches_what_its_network_names_and_by_tcp_only(
    policy: SandboxPolicy, listeners: Listeners, host: str
) -> None:
    named = msgspec.structs.replace(policy, network=(f"{host}:{listeners.targets['tcp'][1]}",))
    outcome = await asyncio.to_thread(attack, named, listeners)
    assert outcome["reached"] == ["tcp/0 _connect", "tcp/6 _connect"]
    assert listeners.arrived() == ["tcp"]
    inet, inet6 = 2, 10
    assert [found for found in outcome["sockets"] if found[0] != NETLINK] == [
        [family, 1, protocol, family] for family in (inet, inet6) for protocol in (0, 6)
    ]


async def test_a_program_with_a_socket_to_write_to_reaches_no_other(
    policy: SandboxPolicy, listeners: Listeners, tmp_path_factory: pytest.TempPathFactory
) -> None:
    own = tmp_path_factory.mktemp("own")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(own / "socket"))
        made.listen()
        outcome = await asyncio.to_thread(attack, msgspec.structs.replace(policy, write=(str(own),)), listeners)
    assert [UNIX, 1, 0, UNIX] in outcome["sockets"]
    assert outcome["reached"] == []
    assert listeners.arrived() == []


async def test_what_the_supervisor_looked_at_cannot_be_swapped_for_another_address(policy: SandboxPolicy) -> None:
    """sandlock reads an address from the program's memory, and for one of no family leaves the call to the kernel."""
    script = Path(__file__).with_name("swap.py")
    with Listeners.tcp("127.0.0.1") as named, Listeners.tcp("127.0.0.2", named.getsockname()[1]) as other:
        port = named.getsockname()[1]
        only = msgspec.structs.replace(policy, network=(f"127.0.0.1:{port}",), read=(str(script),))
        argv = program_argv(RuntimeClass.LANDLOCK, only, [sys.executable, str(script), "127.0.0.2", str(port)])
        done = await asyncio.to_thread(
            subprocess.run, argv, env=program_environment(only), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout == "0 connected\n"
        with pytest.raises(BlockingIOError):
            other.accept()


async def test_no_call_that_is_not_needed(spawn: Spawn, policy: SandboxPolicy) -> None:
    numbers = NEW_CALLS | {name: SYSCALLS[platform.machine()][name] for name in OLD_CALLS}
    agent = await spawn()
    outcomes = await agent.value("calls", numbers)
    assert {name: code for name, code in outcomes.items() if code not in (errno.EPERM, errno.ENOSYS)} == {}
    code = f"import json, runpy; print(json.dumps(runpy.run_path({SCRIPT!r})['calls']({numbers!r})))"
    readable = msgspec.structs.replace(policy, read=(SCRIPT,))
    argv = program_argv(RuntimeClass.LANDLOCK, readable, [sys.executable, "-c", code])
    done = await asyncio.to_thread(
        subprocess.run, argv, env=program_environment(readable), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    outcomes = json.loads(done.stdout)
    assert outcomes.keys() == numbers.keys()
    assert {name: code for name, code in outcomes.items() if code not in (errno.EPERM, errno.ENOSYS)} == {}


@pytest.mark.skipif(platform.machine() != "x86_64", reason="other entries are a matter of x86")
@pytest.mark.parametrize("code", [INT_80, X32], ids=["i386", "x32"])
async def test_another_architectures_entry_ends_the_process(spawn: Spawn, code: list[int]) -> None:
    agent = await spawn()
    await agent.send("enter_by", code)
    assert (await agent.process.wait()).signal == signal.SIGSYS
