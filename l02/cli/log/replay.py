"""`l02 replay` and `l02 verify`: what the log says was, and whether what can be asked is what the log says."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from l02.cli.options import AsJson, DataDir, point_in_log
from l02.cli.running import CommandFailed, run
from l02.cli.terminal.agent_text import AGENT_HEADINGS, agent_pairs, agent_row
from l02.cli.terminal.output import counting, print_json, print_line, print_pairs, print_table

if TYPE_CHECKING:
    from datetime import datetime

    from l02.verify import Difference, Summary

_DIFFERENT = 1


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command(epilog="Example: l02 replay h1 --to 10m")(replay)
    app.command(epilog="Example: l02 verify")(verify)


def replay(
    agent_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="The agent's id. Default: all agents.", show_default=False)
    ] = None,
    *,
    to: Annotated[
        str,
        typer.Option(
            metavar="WHEN",
            help="A sequence number, an RFC 3339 time, or how long ago, such as 10m.",
            show_default=False,
        ),
    ],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show an agent, or list all agents, as they were: folded from the first event on.

    What was stored up to that event or time counts. Prints what `l02 show` and `l02 ps` print.
    """
    point = point_in_log(to)
    assert point is not None
    run(_replay(agent_id, point, data_dir, as_json), as_json=as_json)


async def _replay(agent_id: str | None, to: int | datetime, data_dir: Path | None, as_json: bool) -> None:
    from l02.client.discovery import connected
    from l02.client.replay import replay_agent, replay_agents

    async with connected("l02 replay", data_dir=data_dir) as bus:
        with counting("replaying", quiet=as_json) as count:
            if agent_id is None:
                agents = await replay_agents(bus, to, count)
            else:
                agents = [await replay_agent(bus, agent_id, to, count)]
    if as_json:
        print_json(agents if agent_id is None else agents[0])
    elif agent_id is None:
        print_table(AGENT_HEADINGS, map(agent_row, agents), text="NAME")
    else:
        print_pairs(agent_pairs(agents[0]))


def verify(data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Replay all events and compare with what comes of it: tables, live views, snapshots, and the log with itself.

    All goes on meanwhile. With --json, one difference a line, then a summary. Exit code 1 if anything differs.
    """
    run(_verify(data_dir, as_json), as_json=as_json)


async def _verify(data_dir: Path | None, as_json: bool) -> None:
    import asyncpg

    from l02.client.discovery import NodeUnreachable, connected, find_postgres_url
    from l02.projections.tables.database import DatabaseUnreachable
    from l02.verify import verify as verify_all

    # Shown when the progress bar is gone, which takes over the terminal and standard output.
    found: list[Difference] = []
    report = print_json if as_json else found.append
    postgres_url = find_postgres_url(data_dir)
    try:
        async with connected("l02 verify", data_dir=data_dir) as bus:
            with counting("replaying", quiet=as_json) as count:
                summary = await verify_all(bus, postgres_url, report, on_progress=count)
    except DatabaseUnreachable as error:
        raise NodeUnreachable(str(error)) from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise CommandFailed(f"PostgreSQL: {error}") from error
    if as_json:
        print_json(summary)
    else:
        for difference in found:
            print_line(_line(difference))
        print_line(_conclusion(summary))
    if summary.differences:
        raise typer.Exit(_DIFFERENT)


def _line(difference: Difference) -> str:
    where = f"{difference.place} {difference.key}".rstrip()
    return f"{where}, event {difference.sequence}: {difference.message}"


def _conclusion(summary: Summary) -> str:
    whose = f"{summary.aggregates} agents, nodes and budgets"
    scope = f"{summary.events} events of {whose}, compared as of event {summary.sequence}"
    match summary.differences:
        case 0:
            return f"nothing differs ({scope})"
        case 1:
            return f"1 difference ({scope})"
        case count:
            return f"{count} differences ({scope})"
