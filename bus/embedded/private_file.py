"""Files that hold credentials: never readable by another user, and never seen half written, not even for a moment."""

from __future__ import annotations

import os
from pathlib import Path

PRIVATE_FILE = 0o600
PRIVATE_DIRECTORY = 0o700
_LOG_LIMIT = 10 * 1024 * 1024


def make_private_directory(path: Path) -> Path:
    """Create one directory for this user only, unless it exists; return it."""
    path.mkdir(mode=PRIVATE_DIRECTORY, exist_ok=True)
    return path


def write_private(path: Path, content: bytes) -> None:
    """Replace the file's content atomically and durably, mode 0600. Raises OSError."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError:
        draft.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the creation, renaming or removal of the directory's entries durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def open_private_log(path: Path) -> int:
    """Open a log to append to, mode 0600; one over 10 MiB is first moved aside to `<name>.1`. Returns a descriptor."""
    if path.exists() and path.stat().st_size > _LOG_LIMIT:
        path.replace(path.with_name(path.name + ".1"))
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, PRIVATE_FILE)
