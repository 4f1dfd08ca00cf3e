"""Programs under sandlock's supervision: a command agent on its socket, and MCP servers on their standard streams."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import psutil
import pytest
from mcp import ClientSession
from mcp.client.stdio import StdioServerParameters, stdio_client

from l02.domain.agent.resources import ResourceExceeded
from l02.domain.errors import ErrorCode
from l02.domain.specification import RuntimeClass
from l02.handlers.sandbox.confinement.policy import ProgramEntry, SandboxPolicy
from l02.handlers.sandbox.program import program_argv, program_environment
from l02.handlers.sandbox.sandboxes import Sandboxes
from tests.sandbox.conftest import landlock_only

pytestmark = landlock_only

ECHO = 'while read -r line; do printf "%s\\n" "$line" >&"$L02_FD"; done'


def run(
    policy: SandboxPolicy, *command: str, runtime_class: RuntimeClass = RuntimeClass.LANDLOCK
) -> subprocess.CompletedProcess[str]:
    """Run a command in a sandbox to its end."""
    return subprocess.run(
        program_argv(runtime_class, policy, command),
        env=program_environment(policy),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def python(policy: SandboxPolicy, code: str) -> subprocess.CompletedProcess[str]:
    return run(policy, sys.executable, "-c", code)


@pytest.mark.parametrize("runtime_class", [RuntimeClass.LANDLOCK, RuntimeClass.PROCESS])
async def test_a_program_speaks_on_its_socket(
    sandboxes: Sandboxes, policy: SandboxPolicy, tmp_path: Path, runtime_class: RuntimeClass
) -> None:
    log = tmp_path / "log"
    entry = ProgramEntry(("/bin/sh", "-c", f"echo started; {ECHO}; exit 4"))
    process = await sandboxes.spawn(runtime_class, policy, entry, str(log))
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(process.socket, b'{"n":1}\n')
    assert await loop.sock_recv(process.socket, 100) == b'{"n":1}\n'
    assert process.memory_bytes() > 0
    process.socket.shutdown(socket.SHUT_WR)
    ending = await process.wait()
    process.socket.close()
    assert ending.cause == "exited with code 4"
    assert log.read_text() == "started\n"


CLASSES = pytest.mark.parametrize("runtime_class", [RuntimeClass.LANDLOCK, RuntimeClass.PROCESS])


@CLASSES
@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
async def test_node_js_runs(policy: SandboxPolicy, runtime_class: RuntimeClass) -> None:
    done = await asyncio.to_thread(run, policy, "node", "-e", "console.log(40 + 2)", runtime_class=runtime_class)
    assert (done.stdout, done.returncode) == ("42\n", 0), done.stderr


NODE = """
const { Worker, isMainThread, parentPort } = require('worker_threads');
if (!isMainThread) { parentPort.postMessage(40); } else {
  const { execFileSync } = require('child_process'), crypto = require('crypto'), fs = require('fs'), os = require('os');
  const watcher = fs.watch('.');
  new Worker(__filename).once('message', (number) => {
    fs.writeFileSync('note', execFileSync('echo', [String(number + 2)]));
    crypto.pbkdf2('a', 'b', 10, 8, 'sha256', () => fs.promises.readFile('note', 'utf8').then((text) => {
      watcher.close();
      console.log(text.trim(), Object.keys(os.networkInterfaces()).join(), new Intl.NumberFormat('de').format(1.5));
    }));
  });
}
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="Node.js is not installed")
async def test_node_js_has_what_it_needs(policy: SandboxPolicy) -> None:
    workspace = Path(policy.workspace)
    workspace.mkdir(mode=0o700)
    (workspace / "program.js").write_text(NODE)
    done = await asyncio.to_thread(run, policy, "node", str(workspace / "program.js"))
    assert (done.stdout, done.returncode) == ("42 lo 1,5\n", 0), done.stderr


async def test_python_has_what_it_needs(policy: SandboxPolicy) -> None:
    code = """
import asyncio, concurrent.futures, multiprocessing, os, selectors, signal, sqlite3, subprocess, tempfile, threading

async def main():
    child = await asyncio.create_subprocess_exec("cat", stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    said, _ = await child.communicate(b"hello")
    return said.decode() + await asyncio.to_thread(lambda: " thread")

with tempfile.TemporaryDirectory() as name, sqlite3.connect(f"{name}/db") as database:
    database.execute("create table t (x)")
left, right = multiprocessing.get_context("fork").Pipe()
process = multiprocessing.get_context("fork").Process(target=lambda: right.send(os.getpid()))
process.start(); process.join()
assert left.recv() == process.pid
signal.signal(signal.SIGALRM, lambda *_: None); signal.setitimer(signal.ITIMER_REAL, 0.01); signal.pause()
print(asyncio.run(main()))
"""
    done = await asyncio.to_thread(python, policy, code)
    assert (done.stdout, done.returncode) == ("hello thread\n", 0), done.stderr


@pytest.mark.parametrize("ask", ["kill", "terminate"])
async def test_a_program_can_be_stopped(sandboxes: Sandboxes, policy: SandboxPolicy, tmp_path: Path, ask: str) -> None:
    entry = ProgramEntry(("/bin/sleep", "600"))
    process = await sandboxes.spawn(RuntimeClass.LANDLOCK, policy, entry, str(tmp_path / "log"))
    getattr(process, ask)()
    ending = await process.wait()
    process.socket.close()
    assert ending.cause == {"kill": "killed by SIGKILL", "terminate": "killed by SIGTERM"}[ask]


@CLASSES
async def test_address_space_is_not_memory(policy: SandboxPolicy, runtime_class: RuntimeClass) -> None:
    code = "import mmap; mmap.mmap(-1, 16 << 30, mmap.MAP_PRIVATE); print('reserved')"
    done = await asyncio.to_thread(run, policy, sys.executable, "-c", code, runtime_class=runtime_class)
    assert (done.stdout, done.returncode) == ("reserved\n", 0), done.stderr


async def test_memory_is_taken_by_processes_only(policy: SandboxPolicy) -> None:
    """What would stay when no process has it in its memory is refused, however it is asked for."""
    code = """
import ctypes, mmap, os
libc = ctypes.CDLL(None, use_errno=True)
def named(result): return "done" if result != -1 else os.strerror(ctypes.get_errno())
def tried(act):
    try: act(); return "done"
    except OSError as error: return error.strerror
print(tried(lambda: os.memfd_create("x")), "|", tried(lambda: mmap.mmap(-1, 1 << 20)), "|",
      named(libc.shmget(0, 1 << 20, 0o1600)), "|", tried(lambda: os.open("/dev/shm/x", os.O_CREAT | os.O_RDWR)), "|",
      tried(lambda: os.open("/dev/zero", os.O_RDONLY)), "|", tried(lambda: mmap.mmap(-1, 1 << 20, mmap.MAP_PRIVATE)))
"""
    ran = python(policy, code)
    assert ran.stdout.strip().split(" | ") == [
        "Function not implemented",
        "Operation not permitted",
        "Operation not permitted",
        "Permission denied",
        "Permission denied",
        "done",
    ], ran.stderr


async def test_a_signal_in_the_middle_of_the_start_is_not_lost(
    sandboxes: Sandboxes, policy: SandboxPolicy, tmp_path: Path
) -> None:
    async def one() -> str:
        entry = ProgramEntry(("/bin/sleep", "600"))
        process = await sandboxes.spawn(RuntimeClass.LANDLOCK, policy, entry, str(tmp_path / "log"))
        process.terminate()
        try:
            async with asyncio.timeout(60):
                return (await process.wait()).cause
        finally:
            process.kill()
            process.socket.close()

    assert {await one() for _ in range(40)} == {"killed by SIGTERM"}


TAKEN = {
    "pages": "held = bytearray(80 << 20); held[::4096] = b'x' * len(held[::4096])",
    # of pages that were only read there is nothing but this
    "tables of pages": (
        "import mmap; held = mmap.mmap(-1, 64 << 30, mmap.MAP_PRIVATE, mmap.PROT_READ)\n"
        "for place in range(0, 64 << 30, 2 << 20): held[place]"
    ),
}


@pytest.mark.parametrize("what", TAKEN)
@CLASSES
async def test_a_program_over_its_memory_is_killed(
    sandboxes: Sandboxes, policy: SandboxPolicy, tmp_path: Path, runtime_class: RuntimeClass, what: str
) -> None:
    small = msgspec.structs.replace(policy, memory_bytes=64 << 20)
    code = f"{TAKEN[what]}\nimport time; time.sleep(60)"
    entry = ProgramEntry((sys.executable, "-c", code))
    process = await sandboxes.spawn(runtime_class, small, entry, str(tmp_path / "log"))
    ending = await process.wait()
    process.socket.close()
    peak = f"{ending.memory_peak_bytes / (1 << 20):.1f}Mi"
    assert ending.cause == f"exceeded its memory limit of 64Mi (resource_limits.memory); its peak was {peak}"
    assert ending.exceeded == ResourceExceeded(
        resource_type="memory",
        limit=64 << 20,
        actual=ending.memory_peak_bytes,
        action_taken="terminate",
        code=ErrorCode.MEMORY_LIMIT_EXCEEDED.value,
    )
    done = await asyncio.to_thread(run, small, sys.executable, "-c", code, runtime_class=runtime_class)
    assert done.returncode == 137
    assert "exceeded its memory limit of 64Mi" in done.stderr


async def test_environment_and_exit_code(policy: SandboxPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_KEY", "not for programs")
    done = await asyncio.to_thread(run, policy, "/bin/sh", "-c", "env; pwd; exit 7")
    assert done.returncode == 7
    assert "COLOUR=green" in done.stdout
    assert "MODEL_KEY" not in done.stdout
    assert "L02_ENV" not in done.stdout
    assert done.stdout.rstrip().endswith(policy.workspace)
    assert not any("green" in word for word in program_argv(RuntimeClass.LANDLOCK, policy, ["env"]))
    done = await asyncio.to_thread(run, policy, "/bin/sh", "-c", "kill -TERM $$")
    assert done.returncode == -15


async def test_a_program_reaches_nothing_of_the_host(policy: SandboxPolicy, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("the host's")
    secret.chmod(0o600)
    readable = msgspec.structs.replace(policy, read=(str(secret),))
    for attempt in ("cat /etc/shadow", f"cat /proc/{os.getpid()}/environ", f"ls {tmp_path}", "ls /proc"):
        done = await asyncio.to_thread(run, readable, *attempt.split())
        assert done.returncode != 0, attempt
        assert not done.stdout
    attempts = [f"echo x > {secret}", f"chmod 777 {secret}", f"touch -d yesterday {secret}", f"rm {secret}"]
    attempts += ["cp /bin/true t && chmod u+s t", f"echo x > {tmp_path}/new", f"kill -CONT {os.getpid()}"]
    for attempt in attempts:
        done = await asyncio.to_thread(run, readable, "/bin/sh", "-c", attempt)
        assert done.returncode != 0, attempt
    assert secret.read_text() == "the host's"
    assert secret.stat().st_mode & 0o777 == 0o600


async def test_a_program_has_no_network(policy: SandboxPolicy, tmp_path: Path) -> None:
    abstract = "\0l02-test-" + os.urandom(8).hex()
    listeners = [socket.socket(socket.AF_INET), socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)]
    with listeners[0] as tcp, listeners[1] as named, listeners[2] as unnamed:
        tcp.bind(("127.0.0.1", 0))
        named.bind(str(tmp_path / "socket"))
        unnamed.bind(abstract)
        for listener in listeners:
            listener.listen()
        code = f"""
import json, socket
results = {{}}
for name, family, kind, address in (
    ("tcp", socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", {tcp.getsockname()[1]})),
    ("udp", socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 9)),
    ("named", socket.AF_UNIX, socket.SOCK_STREAM, {str(tmp_path / "socket")!r}),
    ("abstract", socket.AF_UNIX, socket.SOCK_STREAM, {abstract!r}),
):
    try:
        connection = socket.socket(family, kind)
        connection.connect(address)
        results[name] = "connected"
    except PermissionError:
        results[name] = "refused"
    except OSError as error:
        results[name] = str(error)
print(json.dumps(results))
"""
        done = await asyncio.to_thread(python, policy, code)
        assert json.loads(done.stdout) == dict.fromkeys(("tcp", "udp", "named", "abstract"), "refused")
        named_host = msgspec.structs.replace(policy, network=(f"127.0.0.1:{tcp.getsockname()[1]}",))
        done = await asyncio.to_thread(python, named_host, code)
        assert json.loads(done.stdout)["tcp"] == "connected"


async def test_a_fork_bomb_is_bounded(policy: SandboxPolicy) -> None:
    few = msgspec.structs.replace(policy, max_processes=10)
    code = """
import os, time
count = 0
try:
    while count < 1000:
        if os.fork() == 0:
            time.sleep(60)
        count += 1
except OSError as error:
    print(count, error.errno)
"""
    started = time.monotonic()
    done = await asyncio.to_thread(python, few, code)
    assert done.stdout == "9 11\n"
    assert time.monotonic() - started < 30, "the forked processes were waited for, not killed"


@pytest.mark.conformance
async def test_an_mcp_server_reads_a_repository(policy: SandboxPolicy, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "GIT_CONFIG_NOSYSTEM": "1"}
    environment |= {
        f"GIT_{who}_{what}": value
        for who in ("AUTHOR", "COMMITTER")
        for what, value in (("NAME", "A"), ("EMAIL", "a@example.org"))
    }
    for arguments in (["init", "-q", "."], ["commit", "-q", "--allow-empty", "-m", "the first of all commits"]):
        repository.mkdir(exist_ok=True)
        await asyncio.to_thread(subprocess.run, ["git", *arguments], cwd=repository, env=environment, check=True)
    server = str(Path(sys.executable).with_name("mcp-server-git"))
    reading = msgspec.structs.replace(policy, read=(str(repository),))
    command, *arguments = program_argv(RuntimeClass.LANDLOCK, reading, [server, "--repository", str(repository)])
    parameters = StdioServerParameters(command=command, args=arguments, env=program_environment(reading))
    async with stdio_client(parameters) as (read, write), ClientSession(read, write) as session:
        await session.initialize()
        log = await session.call_tool("git_log", {"repo_path": str(repository), "max_count": 1})
        assert "the first of all commits" in str(log.content)
        refused = await session.call_tool("git_create_branch", {"repo_path": str(repository), "branch_name": "b"})
        assert refused.is_error
    assert not Path(repository, ".git/refs/heads/b").exists()


@pytest.mark.parametrize("victim", ["guard", "supervisor"])
async def test_no_single_kill_leaves_a_process(policy: SandboxPolicy, victim: str) -> None:
    command = ("/bin/sh", "-c", "setsid sleep 604 & sleep 605 & echo ready; wait")
    guard = await asyncio.create_subprocess_exec(
        *program_argv(RuntimeClass.LANDLOCK, policy, command),
        env=program_environment(policy),
        stdout=asyncio.subprocess.PIPE,
    )
    assert guard.stdout is not None
    assert await guard.stdout.readline() == b"ready\n"
    (supervisor,) = psutil.Process(guard.pid).children()
    members = psutil.Process(guard.pid).children(recursive=True)
    assert len(members) == 4
    if victim == "guard":
        guard.kill()
    else:
        supervisor.kill()
    await guard.wait()
    assert await guard.stdout.read() == b""  # the last holder of its output is gone
    _, alive = await asyncio.to_thread(psutil.wait_procs, members, 15)
    assert not alive


CHAIN = """
import os, sys, time
for _ in range(700):
    if os.fork():
        os.wait()
        sys.exit()
print("deep", flush=True)
time.sleep(600)
"""


async def test_memory_of_a_long_chain_of_processes_is_counted(
    sandboxes: Sandboxes, policy: SandboxPolicy, tmp_path: Path
) -> None:
    every_core = 1000 * (os.cpu_count() or 1)  # it is not held to less, as to begin 700 processes takes much at once
    roomy = msgspec.structs.replace(policy, memory_bytes=1 << 40, cpu_millis=every_core)
    log = tmp_path / "log"
    entry = ProgramEntry((sys.executable, "-c", CHAIN))
    process = await sandboxes.spawn(RuntimeClass.PROCESS, roomy, entry, str(log))
    async with asyncio.timeout(60):
        while log.read_text() != "deep\n":  # noqa: ASYNC110 - nothing announces it
            await asyncio.sleep(0.05)
    assert process.memory_bytes() > 700 << 20
    process.watch()
    process.kill()
    assert (await process.wait()).cause == "killed by SIGKILL"
    process.socket.close()
