"""A tool server as a process: found, started in its sandbox, and stopped with all it has started itself."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import signal
import sys
from asyncio.subprocess import PIPE, Process
from contextlib import suppress
from pathlib import Path

import msgspec
from msgspec import UNSET
from msgspec.structs import replace

from l02.domain.specification import RuntimeClass, ToolServer
from l02.handlers.sandbox.confinement import classes
from l02.handlers.sandbox.confinement.policy import SandboxPolicy
from l02.handlers.sandbox.log import CHUNK_BYTES
from l02.handlers.sandbox.program import program_argv, program_environment
from l02.handlers.tool_servers.model import ToolNotRun

MEMORY_BYTES = 1024**3
CPU_MILLIS = 2000
MAX_PROCESSES = 64
GRACE_SECONDS = 2.0
"""Between two steps of stopping a server; the MCP specification's own SDK waits as long."""

_encoder = msgspec.json.Encoder(order="deterministic")


def specification_key(server: ToolServer) -> bytes:
    """The same bytes for specifications of the same server, and only for these.

    When it starts, and which of its tools an agent may call, makes no other server of it.
    """
    return _encoder.encode(replace(server, start=UNSET, allow=UNSET, ask=UNSET))


def name_of(server: ToolServer) -> str:
    """A name for files: the program's, and what tells apart equal programs with different specifications."""
    program = re.sub(r"[^A-Za-z0-9._-]", "_", Path(server.command[0]).name)[:40]
    return f"{program}-{hashlib.sha256(specification_key(server)).hexdigest()[:12]}"


_FETCHING = (
    *(("npx",), ("bunx",), ("pnpx",), ("uvx",), ("npm", "exec"), ("npm", "x"), ("pnpm", "dlx"), ("yarn", "dlx")),
    *(("bun", "x"), ("uv", "tool", "run"), ("uv", "x"), ("pipx", "run")),
)
"""Commands that fetch what they run unless it is installed or in a cache."""
_OFFLINE = {"npm_config_offline": "true", "YARN_ENABLE_NETWORK": "0", "UV_OFFLINE": "1", "PIP_RETRIES": "0"}
"""With these, they say at once that they have not got it, where they would try for a minute and more."""


def why_not_fetched(server: ToolServer, runtime_class: RuntimeClass) -> str:
    """What is to be added to the reason why a server did not start, if it may be that it could not be fetched."""
    if not _must_do_without_network(server, runtime_class):
        return ""
    return (
        f"; {Path(server.command[0]).name} fetches what is not installed, and this server has no `network`: install "
        "the package and name its program as the command, or give the server its registry in `network`"
    )


def _must_do_without_network(server: ToolServer, runtime_class: RuntimeClass) -> bool:
    begins = (Path(server.command[0]).name, *server.command[1:3])
    fetches = any(begins[: len(launcher)] == launcher for launcher in _FETCHING)
    return fetches and not server.network and runtime_class is not RuntimeClass.PROCESS


async def start(server: ToolServer, runtime_class: RuntimeClass, scratch: Path) -> Process:
    """Start a server with pipes for its standard input, output and error.

    Raises ToolNotRun if its specification cannot be met on this machine.
    """
    unavailable = classes.available()[runtime_class]
    if unavailable is not None:
        raise ToolNotRun(f"runtime class {runtime_class} is not available on this node: {unavailable}")
    policy = SandboxPolicy(
        workspace=str(scratch),
        read=server.read,
        write=server.write,
        network=server.network,
        memory_bytes=MEMORY_BYTES,
        cpu_millis=CPU_MILLIS,
        max_processes=MAX_PROCESSES,
        environment=(_OFFLINE if _must_do_without_network(server, runtime_class) else {}) | server.environment,
    )
    problem = policy.problem()
    if problem is not None:
        raise ToolNotRun(f"its sandbox cannot be made: {problem}")
    for path in (*server.read, *server.write):
        if not Path(path).exists():
            raise ToolNotRun(f"its specification names {path!r}, which does not exist")
    command = (_find(server.command[0]), *server.command[1:])
    try:
        return await asyncio.create_subprocess_exec(
            *program_argv(runtime_class, policy, command),
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            env=program_environment(policy),
            limit=CHUNK_BYTES,
            start_new_session=True,  # Ctrl-C in the node's terminal is for the node
        )
    except OSError as error:
        raise ToolNotRun(f"its process cannot be made: {error}") from error


async def stop(process: Process, *, at_once: bool) -> None:
    """Close its standard input and wait, then SIGTERM and wait, then SIGKILL; `at_once` begins with SIGTERM.

    Returns when it is gone. Killed at once if this is cancelled. Nothing else may read its output meanwhile.
    """
    assert process.stdin is not None
    assert process.stdout is not None
    discarding = asyncio.create_task(_discard(process.stdout))
    process.stdin.close()
    try:
        if not at_once and await _ended(process):
            return
        _signal(process, signal.SIGTERM)
        if not await _ended(process):
            _signal(process, signal.SIGKILL)
            await process.wait()
    finally:
        _signal(process, signal.SIGKILL)
        discarding.cancel()


def _find(program: str) -> str:
    """Look a program up where the node finds programs, and beside the node's Python."""
    if os.sep in program and not os.path.isabs(program):  # noqa: PTH117 - no Path needed
        raise ToolNotRun(f"its program {program!r} is a relative path; give an absolute one, or a name on PATH")
    directories = os.pathsep.join([os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)])
    found = shutil.which(program, path=directories)
    if found is None:
        raise ToolNotRun(f"its program {program!r} is neither on PATH nor in {Path(sys.executable).parent}")
    return found


async def _discard(output: asyncio.StreamReader) -> None:
    """Read to the end: a server that is stuck writing would not see its input end, nor its pipe be closed."""
    while await output.read(CHUNK_BYTES):
        pass


async def _ended(process: Process) -> bool:
    try:
        async with asyncio.timeout(GRACE_SECONDS):
            await process.wait()
    except TimeoutError:
        return False
    return True


def _signal(process: Process, number: signal.Signals) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):  # it has just ended
            process.send_signal(number)
