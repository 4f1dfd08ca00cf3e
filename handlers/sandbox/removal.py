"""Directories that sandboxed programs have filled go whole, however deep they are and whatever may be read of them."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

import structlog

_log = structlog.get_logger()


def remove_tree(path: Path) -> None:
    """Delete a directory with all that is in it; says in the log why it could not. Nothing may write to it any more.

    `shutil.rmtree` calls itself for each level, and raises RecursionError for a tree of a thousand.
    """
    try:
        root = _open(path)
        try:
            _empty(root)
        finally:
            os.close(root)
        path.rmdir()
    except FileNotFoundError:
        return
    except OSError as error:
        _log.warning("a directory of a sandboxed program is not removed", path=str(path), error=str(error))


def _empty(root: int) -> None:
    """Move every directory up to the root, so that none is more than one level deep when it is looked at."""
    moved = secrets.token_hex(8)
    directories = _delete_files(root)
    number = 0
    while directories:
        name = directories.pop()
        directory = _open(name, root)
        try:
            for below in _delete_files(directory):
                number += 1
                os.chmod(below, 0o700, dir_fd=directory)  # to move it is to change it
                os.rename(below, f"{moved}-{number}", src_dir_fd=directory, dst_dir_fd=root)
                directories.append(f"{moved}-{number}")
        finally:
            os.close(directory)
        os.rmdir(name, dir_fd=root)


def _delete_files(directory: int) -> list[str]:
    """Delete what is no directory, and return the names of what is."""
    directories = []
    with os.scandir(directory) as listed:
        entries = list(listed)
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            directories.append(entry.name)
        else:
            os.unlink(entry.name, dir_fd=directory)
    return directories


def _open(name: Path | str, directory: int | None = None) -> int:
    os.chmod(name, 0o700, dir_fd=directory)
    return os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
