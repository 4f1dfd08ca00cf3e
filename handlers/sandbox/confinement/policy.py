"""What a sandbox permits: the vocabulary that the node, the zygote and the sandboxed child share."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any

import msgspec

from l02.domain.specification import RuntimeClass
from l02.domain.specification.secrecy import HidesEnvironment

MINIMUM_MEMORY = 4 * 1024 * 1024


class SandboxPolicy(HidesEnvironment, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The permissions and limits of one sandbox.

    `workspace` is an absolute directory, created with mode 0700, which the process may write to; it is also its
    working directory, HOME and TMPDIR. `read` and `write` are further absolute paths. `network` lists `host:port`
    destinations and counts for programs only: a Python agent never has a network. `memory_bytes` bounds resident
    memory, of a Python agent in `landlock` also what it adds to its address space. `cpu_millis` is a share of processor
    time (1000: a core's), to which the node holds all processes of an agent together. `max_processes` bounds programs;
    a Python agent in `landlock` is always one process. `disk_bytes` bounds each file, and the workspace of an agent.
    """

    workspace: str
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    network: tuple[str, ...] = ()
    memory_bytes: int = 256 * 1024 * 1024
    cpu_millis: int = 1000
    disk_bytes: int = 1 << 30
    max_processes: int = 64
    environment: dict[str, str] = msgspec.field(default_factory=dict)

    def problem(self) -> str | None:
        """Say why no sandbox can be made from this policy, or None."""
        for path in (self.workspace, *self.read, *self.write):
            if not PurePath(path).is_absolute() or "\0" in path:
                return f"path {path!r} is not absolute"
        if self.memory_bytes < MINIMUM_MEMORY:
            return f"memory_bytes must be at least {MINIMUM_MEMORY}, not {self.memory_bytes}"
        if self.cpu_millis < 1:
            return f"cpu_millis must be at least 1, not {self.cpu_millis}"
        if self.max_processes < 1:
            return f"max_processes must be at least 1, not {self.max_processes}"
        for name, value in self.environment.items():
            if not name or "=" in name or "\0" in name + value:
                return f"environment variable {name!r} cannot be set"
        return None


class PythonEntry(msgspec.Struct, frozen=True, tag="python"):
    """`module:function`, called as `function(fd, config)` in the sandbox; `fd` is the agent's connected socket."""

    target: str
    config: dict[str, Any] = {}


class ProgramEntry(msgspec.Struct, frozen=True, tag="program"):
    """Any program. Its socket is the file descriptor named by the variable L02_FD (its standard input, 0)."""

    command: tuple[str, ...]


Entry = PythonEntry | ProgramEntry


class SpawnRequest(msgspec.Struct, frozen=True):
    """What a freshly forked child reads from its own socket, so that the zygote never holds it in its memory."""

    runtime_class: RuntimeClass
    policy: SandboxPolicy
    entry: Entry
    log_path: str
    control_group: str | None = None
    """The directory of the one that holds it to its share of the processors, if the kernel does."""


def format_bytes(count: int) -> str:
    """Write a number of bytes as people do: `64Mi`, `1500Ki`, `12`."""
    for suffix, size in (("Gi", 1 << 30), ("Mi", 1 << 20), ("Ki", 1 << 10)):
        if count >= size and count % size == 0:
            return f"{count // size}{suffix}"
    return str(count)
