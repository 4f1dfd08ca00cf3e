"""`l02 errors` and `l02 rebuild`: for whoever keeps the system going."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from l02.cli.options import AsJson, DataDir
from l02.cli.running import CommandFailed, run
from l02.cli.terminal.output import counting, print_done, print_json, print_line, print_table


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command(epilog="Example: l02 rebuild agents")(rebuild)
    app.command(epilog="Example: l02 errors E2112")(errors)


def rebuild(
    view: Annotated[
        str,
        typer.Argument(metavar="VIEW", help="A table such as agents, or views.", show_default=False),
    ],
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Build a read model anew from the first event, and put it in the place of the old one.

    `views` are the live ones, the others are tables in PostgreSQL. All goes on meanwhile.
    """
    run(_rebuild(view, data_dir, as_json), as_json=as_json)


async def _rebuild(view: str, data_dir: Path | None, as_json: bool) -> None:
    import asyncpg

    from l02.client.discovery import NodeUnreachable, connected, find_postgres_url
    from l02.projections.rebuild import PROJECTIONS, RebuildUnderWay
    from l02.projections.rebuild import rebuild as rebuild_projection
    from l02.projections.tables.database import DatabaseUnreachable

    if view not in PROJECTIONS:
        raise typer.BadParameter(f"{view!r} is none of: {', '.join(PROJECTIONS)}", param_hint="VIEW")
    postgres_url = find_postgres_url(data_dir)
    try:
        async with connected("l02 rebuild", data_dir=data_dir) as bus:
            with counting(f"rebuilding {view}", quiet=as_json) as count:
                sequence = await rebuild_projection(view, bus, postgres_url, count)
    except DatabaseUnreachable as error:
        raise NodeUnreachable(str(error)) from error
    except RebuildUnderWay as error:
        raise CommandFailed(str(error)) from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise CommandFailed(f"PostgreSQL: {error}; {view} is as it was, try again") from error
    print_done({"view": view, "sequence": sequence}, f"{view} is built anew from all events up to {sequence}", as_json)


def errors(
    code: Annotated[
        str | None, typer.Argument(metavar="CODE", help="E2112 or INVALID_STATE. Default: all.", show_default=False)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Explain error codes: what each means and what to do."""
    from l02.domain.errors import EXPLANATIONS, ErrorCode

    wanted = [known for known in ErrorCode if code is None or code.upper() in (known.value, known.name)]
    if not wanted:
        raise typer.BadParameter(f"there is no error {code!r}; `l02 errors` lists them", param_hint="CODE")
    if as_json:
        fields = ("code", "name", "meaning", "advice")
        found = [dict(zip(fields, (known.value, known.name, *EXPLANATIONS[known]), strict=True)) for known in wanted]
        print_json(found[0] if code is not None else found)
    elif code is not None:
        meaning, advice = EXPLANATIONS[wanted[0]]
        print_line(f"{wanted[0].value} {wanted[0].name}\n{meaning}\n{advice}")
    else:
        print_table(
            ("CODE", "NAME", "MEANING"), ((known.value, known.name, EXPLANATIONS[known][0]) for known in wanted)
        )
