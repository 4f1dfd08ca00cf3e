"""How a command runs: a client for it, its failures in one line each with an exit code, and a quiet end when told to.

Exit codes: 0 done, 1 refused or failed, 2 wrong usage (typer's), 3 no node or server answers, 130 interrupted, 143
terminated. What if standard output cannot be written, `standard_streams` says.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from l02.client.client import Client
    from l02.domain.errors import Failure

_FAILED = 1
_UNREACHABLE = 3
_INTERRUPTED = 128 + signal.SIGINT


class CommandFailed(Exception):
    """A command cannot do its work; the message is one line that says what to do."""


def run_with_client(
    work: Callable[[Client], Coroutine[Any, Any, None]], *, data_dir: Path | None, as_json: bool
) -> None:
    """Connect, do the work, disconnect; whatever goes wrong ends the program as this module says."""
    run(_connected(work, data_dir), as_json=as_json)


def run(work: Coroutine[Any, Any, None], *, as_json: bool) -> None:
    """Do the work; whatever goes wrong ends the program as this module says."""
    import asyncio

    with reporting(as_json):
        from l02.logs import log_events_to_standard_error

        log_events_to_standard_error()
        asyncio.run(until_told_to_end(work))


@contextmanager
def reporting(as_json: bool) -> Iterator[None]:
    """Say what goes wrong on standard error, one line of text or JSON, and exit with the code for it."""
    try:
        yield
    except KeyboardInterrupt:
        raise typer.Exit(_INTERRUPTED) from None
    except Exception as error:
        told = _tell(error, as_json)
        if told is None:
            raise
        raise typer.Exit(told) from None


async def _connected(work: Callable[[Client], Coroutine[Any, Any, None]], data_dir: Path | None) -> None:
    from l02.client.client import Client

    async with Client.connect(data_dir=data_dir, actor=_actor()) as client:
        await work(client)


async def until_told_to_end(work: Coroutine[Any, Any, None]) -> None:
    """Do the work, unless a signal comes first; then end it in an orderly way and exit with that signal's code."""
    import asyncio

    from l02.bus.background.cancelling import end

    task = asyncio.create_task(work)
    loop = asyncio.get_running_loop()
    told: asyncio.Future[int] = loop.create_future()

    def tell(number: int) -> None:
        if not told.done():
            told.set_result(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, tell, number)
    first: set[asyncio.Future[Any]] = {task, told}
    await asyncio.wait(first, return_when=asyncio.FIRST_COMPLETED)
    if not task.done():
        await end(task)
        raise typer.Exit(128 + told.result())
    task.result()


def _tell(error: Exception, as_json: bool) -> int | None:
    """Print an error that can be expected and return the exit code; None for one that cannot."""
    from l02.domain.errors import Failure

    if isinstance(error, Failure):
        _print_failure(error, as_json)
        return _FAILED
    from l02.bus.embedded.errors import DataDirectoryError, ServerError
    from l02.client.discovery import NodeUnreachable
    from l02.node.settings import NodeFailed
    from l02.node.settings_table import SettingsError

    if isinstance(error, NodeUnreachable):
        _print_error({"name": "NODE_UNREACHABLE", "message": str(error)}, str(error), as_json)
        return _UNREACHABLE
    if isinstance(error, CommandFailed | DataDirectoryError | NodeFailed | ServerError | SettingsError):
        _print_error({"name": "FAILED", "message": str(error)}, str(error), as_json)
        return _FAILED
    return None


def _print_failure(failure: Failure, as_json: bool) -> None:
    fields = {"code": failure.code.value, "name": failure.code.name, "message": failure.message}
    place = f" (at {failure.path})" if failure.path else ""
    if failure.path:
        fields["path"] = failure.path
    _print_error(fields, f"{failure.code.value} {failure.code.name}: {failure.message}{place}", as_json)


def _print_error(fields: dict[str, str], line: str, as_json: bool) -> None:
    import msgspec

    from l02.cli.terminal.output import safe

    text = msgspec.json.encode({"error": fields}).decode() if as_json else safe(" ".join(line.split()))
    sys.stderr.write(text + "\n")


def _actor() -> str:
    """Who asks, as it will stand in the events."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"uid-{os.getuid()}"
