"""What the tests' agents do inside their sandboxes: what a line on the socket names, with its outcome as the answer."""

from __future__ import annotations

import ctypes
import hashlib
import json
import mmap
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.sandbox import reach

LIBC = ctypes.CDLL(None, use_errno=True)


def serve(fd: int, config: dict[str, Any]) -> None:
    connection = socket.socket(fileno=fd)
    with connection.makefile("rwb") as lines:
        for line in lines:
            name, *arguments = json.loads(line)
            answer: dict[str, Any]
            try:
                answer = {"value": config if name == "config" else ACTIONS[name](*arguments)}
            except BaseException as error:
                answer = {"error": type(error).__name__, "errno": getattr(error, "errno", None)}
            lines.write(json.dumps(answer).encode() + b"\n")
            lines.flush()


def returns(fd: int, config: dict[str, Any]) -> None:
    print("said by the agent", flush=True)
    os.write(fd, b"done")


def fails(fd: int, config: dict[str, Any]) -> None:
    raise RuntimeError("broken on purpose")


def ends(fd: int, config: dict[str, Any]) -> None:
    sys.exit(config["code"])


def kills_itself(fd: int, config: dict[str, Any]) -> None:
    os.kill(os.getpid(), signal.SIGABRT)


def spins(fd: int, config: dict[str, Any]) -> None:
    for _ in range(2):
        threading.Thread(target=spin, daemon=True).start()
    spin()


def spin() -> None:
    data = bytes(1 << 20)
    while True:
        hashlib.sha256(data)  # without the interpreter's lock


def checked(result: int) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def read(path: str) -> str:
    return Path(path).read_text()


def write(path: str) -> None:
    Path(path).write_text("written")


def append(path: str) -> None:
    with Path(path).open("a") as file:
        file.write("more")


def remove(path: str) -> None:
    Path(path).unlink()


def listing(path: str) -> list[str]:
    return sorted(entry.name for entry in Path(path).iterdir())


def mode(path: str, bits: int) -> None:
    Path(path).chmod(bits)


def created_with_mode(path: str, bits: int) -> None:
    os.close(os.open(path, os.O_CREAT | os.O_WRONLY, bits))


def chmod_of_open_file(path: str) -> None:
    with Path(path).open() as file:
        os.fchmod(file.fileno(), 0o777)


def old_date(path: str) -> None:
    os.utime(path, (0, 0))


def linked(path: str, name: str) -> None:
    os.link(path, name)


def a_socket(family: int, kind: int) -> None:
    socket.socket(family, kind).close()


def a_pair(kind: int) -> None:
    for end in socket.socketpair(socket.AF_UNIX, kind):
        end.close()


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGCONT)  # as forbidden as SIGKILL, and harmless should it not be


def ptrace(pid: int) -> int:
    return checked(LIBC.ptrace(16, pid, 0, 0))  # PTRACE_ATTACH


def peek(pid: int) -> int:
    return checked(LIBC.process_vm_readv(pid, None, 0, None, 0, 0))


def pidfd(pid: int) -> int:
    return os.pidfd_open(pid)  # type: ignore[attr-defined,unused-ignore]


def prlimit(pid: int) -> None:
    import resource

    resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))  # type: ignore[attr-defined,unused-ignore]


def renice(pid: int) -> None:
    os.setpriority(os.PRIO_PROCESS, pid, os.getpriority(os.PRIO_PROCESS, 0))


def all_cores() -> None:
    os.sched_setaffinity(0, range(os.cpu_count() or 1))


def outlive() -> int:
    return checked(LIBC.prctl(1, 0, 0, 0, 0))  # PR_SET_PDEATHSIG


def allocate(count: int) -> int:
    return len(bytearray(count))


def grow(count: int) -> None:
    held = []
    for _ in range(count // (1 << 20)):
        held.append(os.urandom(1 << 20))
    time.sleep(60)


def fork() -> int:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    return pid


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def thread() -> str:
    said: list[str] = []
    worker = threading.Thread(target=said.append, args=("hello",))
    worker.start()
    worker.join()
    return said[0]


def loop() -> str:
    import asyncio

    async def main() -> str:
        return await asyncio.to_thread(lambda: "hello")

    return asyncio.run(main())


def late_import() -> str:
    import sqlite3

    return sqlite3.connect("state.db").execute("select 'hello'").fetchone()[0]  # type: ignore[no-any-return]


def become_root() -> None:
    os.setuid(0)


def new_namespace() -> int:
    return checked(LIBC.unshare(0x10000000))  # CLONE_NEWUSER


def capabilities() -> dict[str, str]:
    """Read the capability sets, which /proc would show if it could be read."""
    effective = (ctypes.c_uint32 * 6)()
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    checked(LIBC.capget(header, effective))
    bounding = [LIBC.prctl(23, number, 0, 0, 0) for number in range(41)]  # PR_CAPBSET_READ
    return {"sets": str(sum(effective)), "bounding": str(bounding.count(1))}


def environment() -> dict[str, str]:
    return dict(os.environ)


def descriptors() -> dict[str, str]:
    found = {}
    for number in range(256):
        try:
            status = os.fstat(number)
        except OSError:
            continue
        found[str(number)] = oct(status.st_mode & 0o170000)
    return found


def daemon() -> int:
    """Leave a process of another session behind, orphaned, and tell its id."""
    read_end, write_end = os.pipe()
    if os.fork() == 0:
        os.setsid()
        pid = os.fork()
        if pid == 0:
            time.sleep(600)
            os._exit(0)
        os.write(write_end, str(pid).encode())
        os._exit(0)
    os.wait()
    return int(os.read(read_end, 20))


def enter_by(code: list[int]) -> int:
    """Run machine code."""
    executable = mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    page = mmap.mmap(-1, mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=executable)
    page.write(bytes(code))
    result: int = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
    return result


def working_directory() -> str:
    return str(Path.cwd())


ACTIONS: dict[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        a_pair,
        a_socket,
        all_cores,
        allocate,
        append,
        become_root,
        capabilities,
        chmod_of_open_file,
        created_with_mode,
        daemon,
        descriptors,
        enter_by,
        environment,
        fork,
        grow,
        kill,
        late_import,
        linked,
        listing,
        loop,
        mode,
        new_namespace,
        old_date,
        outlive,
        reach.calls,
        reach.pairs,
        reach.reached,
        reach.sockets,
        peek,
        pidfd,
        prlimit,
        ptrace,
        read,
        remove,
        renice,
        run,
        thread,
        working_directory,
        write,
    )
}
