"""`l02 mcp`: servers of the Model Context Protocol that this package brings along."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from l02.cli.options import AsJson, group
from l02.cli.running import CommandFailed, run

if TYPE_CHECKING:
    from l02.context.tasks import Project

_URL_VARIABLE = "L02_POSTGRES_URL"


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    servers = group(app, "mcp", "Run one of l02's own MCP servers, as an MCP client does.", "l02 mcp context --help")
    servers.callback()(_servers)
    servers.command(epilog="Example: L02_POSTGRES_URL=postgresql://… l02 mcp context")(context)


def _servers() -> None:
    """Keeps `mcp` a group while there is one server."""


def context(
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir", metavar="DIR", help="Use the PostgreSQL of the node that runs there.", show_default=False
        ),
    ] = None,
    project: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="JSON with projectId, hardRules, techStack, keyPaths, services: what holds for all tasks.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """A context-orchestrator: what tasks are about, in versions, so that whoever takes one up knows where it stands.

    It speaks MCP on standard input and output, and ends when the input does. A node starts one by itself for its
    session bridge, unless L02_SESSION_SERVER names another.

    \b
    Tools:
      get_unified_context    the project's context, and a task's
      save_context_snapshot  change a task's context: a new version of it
      create_checkpoint      name the present versions of tasks
      rollback_to            take a task back to a version or a checkpoint
      check_recovery         sessions that were at work and went silent
      switch_task            leave a task and take up another

    A task becomes known with a session's first snapshot (save_context_snapshot with a sessionId); any other call about
    a task that is not known fails. A session is at work while its task is in_progress. The newest 1000 versions of a
    task are kept, and all that checkpoints hold. Not listed, for they have no meaning here: detect_conflicts and
    resolve_conflict (a task has one line of versions, writers follow one another), get_task_graph (no relations
    between tasks are kept), sync_hot_context (there is no second copy to bring up to date).

    Contexts are kept in schema l02_context of the PostgreSQL that L02_POSTGRES_URL names. A URL holds a password, so
    it is never an option. With --json, errors are JSON.
    """
    run(_serve(data_dir, project), as_json=as_json)


async def _serve(data_dir: Path | None, project_file: Path | None) -> None:
    from l02.client.discovery import find_postgres_url
    from l02.context.store import StoreUnusable, open_store

    project = _project(project_file)
    url = os.environ.get(_URL_VARIABLE) if data_dir is None else None
    try:
        async with open_store(url or find_postgres_url(data_dir)) as store:
            from l02.context.server import serve  # half a second: the package `mcp` makes a class of every message

            await serve(store, project)
    except StoreUnusable as error:
        raise CommandFailed(f"{error}; see {_URL_VARIABLE}") from error
    except ExceptionGroup as group:
        broken = _of_streams(group)
        if broken is None:
            raise
        if not isinstance(broken, BrokenPipeError):
            raise CommandFailed(f"standard input or output does not work: {broken.strerror}") from broken


def _of_streams(group: ExceptionGroup[Exception]) -> OSError | None:
    """What went wrong with the streams to the client, if nothing else did; PostgreSQL's errors are answers by then."""
    if group.split(OSError)[1] is not None:
        return None
    first: Exception = group
    while isinstance(first, ExceptionGroup):
        first = first.exceptions[0]
    return first if isinstance(first, OSError) else None


def _project(path: Path | None) -> Project:
    import msgspec

    from l02.context.tasks import Project

    if path is None:
        return Project()
    try:
        return msgspec.json.decode(path.read_bytes(), type=Project)
    except OSError as error:
        raise typer.BadParameter(f"{path}: {error.strerror}", param_hint="--project") from error
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise typer.BadParameter(f"{path}: {error}", param_hint="--project") from error
