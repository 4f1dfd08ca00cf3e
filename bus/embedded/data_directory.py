"""Where a node keeps everything: one directory, one node. The lock is what lets the node own the servers in it.

The lock is the kernel's (flock), so it is gone when its holder is, however that died. A process forked from the
node without exec inherits it, so the node's own children are always exec'd.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import psutil

from l02.bus.embedded.errors import DataDirectoryError
from l02.bus.embedded.private_file import PRIVATE_DIRECTORY, PRIVATE_FILE, write_private

_LOCK = "l02.lock"
_RUNTIME = "l02.json"
_NODE_ID = "node_id"
# A fresh PostgreSQL cluster takes 39 MiB and its first day's write-ahead log as much again.
_MINIMUM_FREE = 100 * 1024 * 1024


class DataDirectory:
    """A data directory, locked for as long as the `with` block runs. Creates it (0700) with its parents.

    Every operation raises DataDirectoryError with one line that says what to do.
    """

    def __init__(self, path: Path) -> None:
        # Not resolve(): a symbolic link the user chose stays in the messages as the user wrote it.
        self.path = path.expanduser().absolute()
        self._lock: int | None = None
        self._node_id = ""

    @property
    def node_id(self) -> str:
        """`node-<8 hex digits>`: chosen once, kept for the life of the directory."""
        if not self._node_id:
            raise RuntimeError("the data directory is not locked")
        return self._node_id

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def acquire(self) -> None:
        """Create the directory and lock it. Raises DataDirectoryError if it is in use or unusable."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
            self._lock = os.open(self.path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, PRIVATE_FILE)
            self._take_lock(self._lock)
            self._require_space()
            os.ftruncate(self._lock, 0)
            os.pwrite(self._lock, f"{os.getpid()}\n".encode(), 0)
            (self.path / _RUNTIME).unlink(missing_ok=True)
            self._node_id = self._load_node_id()
        except BaseException as error:
            self._unlock()
            if isinstance(error, OSError):
                raise self._explain(error) from error
            raise

    def release(self) -> None:
        """Remove the runtime file and give up the lock: a clean stop."""
        try:
            if self._lock is not None:
                (self.path / _RUNTIME).unlink(missing_ok=True)
        finally:
            self._unlock()

    def write_runtime_file(self, values: Mapping[str, Any]) -> None:
        """Tell others how to reach this node: `l02.json`, mode 0600, whole or not at all."""
        if self._lock is None:
            raise RuntimeError("the data directory is not locked")
        content = msgspec.json.format(msgspec.json.encode({"pid": os.getpid(), **values}), indent=2)
        try:
            write_private(self.path / _RUNTIME, content + b"\n")
        except OSError as error:
            raise self._explain(error) from error

    @staticmethod
    def read_runtime_file(path: Path) -> dict[str, Any]:
        """Return what the node that runs in `path` wrote. Raises DataDirectoryError if none runs there."""
        path = path.expanduser().absolute()
        absent = DataDirectoryError(
            f"no node is running in {path}, or it is not up yet; start one with: l02 up --data-dir '{path}'"
        )
        try:
            written = (path / _RUNTIME).stat().st_mtime
            values = msgspec.json.decode((path / _RUNTIME).read_bytes(), type=dict[str, Any])
            started = psutil.Process(int(values["pid"])).create_time()
        except (FileNotFoundError, NotADirectoryError, psutil.NoSuchProcess) as error:
            raise absent from error
        except OSError as error:
            raise DataDirectoryError(f"{path / _RUNTIME} cannot be read: {error.strerror}") from error
        except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
            raise DataDirectoryError(f"{path / _RUNTIME} is not a node's runtime file: {error}") from error
        # A process that began after the file was written only has the dead node's number. One second: the clocks'
        # granularity, boot time being kept in whole seconds on some systems.
        if started > written + 1:
            raise absent
        return values

    def _take_lock(self, descriptor: int) -> None:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip() or "unknown"
            raise DataDirectoryError(
                f"{self.path} is in use by the node with pid {holder}; stop it or choose another --data-dir"
            ) from error

    def _require_space(self) -> None:
        free = shutil.disk_usage(self.path).free
        if free < _MINIMUM_FREE:
            raise DataDirectoryError(
                f"{self.path} has {free // 2**20} MiB free and a node needs {_MINIMUM_FREE // 2**20} MiB; "
                "make room or choose another --data-dir"
            )

    def _load_node_id(self) -> str:
        path = self.path / _NODE_ID
        if not path.exists():
            write_private(path, f"node-{secrets.token_hex(4)}\n".encode())
        return path.read_text().strip()

    def _unlock(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _explain(self, error: OSError) -> DataDirectoryError:
        match error.errno:
            case errno.EEXIST | errno.ENOTDIR:
                reason = "is not a directory"
            case errno.EROFS:
                reason = "is read-only"
            case errno.EACCES | errno.EPERM:
                reason = "cannot be written by this user"
            case errno.ENOSPC | errno.EDQUOT:
                reason = "is on a full disk"
            case _:
                reason = f"cannot be used ({error.strerror})"
        return DataDirectoryError(f"{self.path} {reason}; choose another --data-dir")
