"""`l02 events`: the audit log."""

from __future__ import annotations

import shutil
import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from l02.cli.options import AsJson, DataDir, point_in_log
from l02.cli.running import run_with_client
from l02.cli.terminal.output import print_json, print_line

if TYPE_CHECKING:
    from l02.bus.wire.codec import RecordedEvent, SetAside
    from l02.client.client import Client


def add_to(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command(epilog="Example: l02 events h1 --type 'agent.execution.*' --since 10m --follow")(events)


def events(
    agent_id: Annotated[
        str | None, typer.Argument(metavar="ID", help="Only the events of this agent.", show_default=False)
    ] = None,
    event_type: Annotated[
        str | None, typer.Option("--type", metavar="TYPE", help="agent.spawned, or a family: 'agent.execution.*'.")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="A sequence number, an RFC 3339 time, or a duration such as 10m."),
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new events as they come.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Print events in their order, oldest first.

    What an agent did itself stands together in `agent.steps.recorded`, and each step on a line of its own. With --json,
    one CloudEvent a line as it is stored, with its `sequence`; of what is no event for this version there are
    `sequence`, `subject` and `reason`.
    """
    begin = point_in_log(since)

    async def work(client: Client) -> None:
        from l02.bus.wire.codec import cloud_event

        def unreadable(aside: SetAside) -> None:
            if as_json:
                print_json(aside)
            else:
                print_line(f"{aside.sequence:>6}  {aside.subject}: {aside.reason}")

        async for recorded in client.events(agent_id, event_type, begin, follow=follow, unreadable=unreadable):
            if as_json:
                print_json({"sequence": recorded.sequence, **cloud_event(recorded)})
            else:
                for line in _lines(recorded):
                    print_line(line)

    run_with_client(work, data_dir=data_dir, as_json=as_json)


_FOR_PROGRAMS = ("awaited_by", "completes")


def _telling(data: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name not in _FOR_PROGRAMS and value not in (None, [], {})}


def _lines(recorded: RecordedEvent) -> list[str]:
    import msgspec

    from l02.domain.agent.work.effects import StepsRecorded

    begin = (
        f"{recorded.sequence:>6}  {recorded.time:%Y-%m-%d %H:%M:%S}.{recorded.time.microsecond // 1000:03}"
        f"  {recorded.aggregate.id:<16}  {recorded.event.type:<27}  "
    )
    data = _telling(msgspec.to_builtins(recorded.event))
    if isinstance(recorded.event, StepsRecorded):
        parts = [{"execution_id": data["execution_id"], **step} for step in data.get("steps", ())]
    else:
        parts = [data]
    return [begin + _fitting(msgspec.json.encode(part).decode(), len(begin)) for part in parts]


def _fitting(text: str, begin: int) -> str:
    """The text, on a terminal cut off where its line ends."""
    if not sys.stdout.isatty():
        return text
    space = max(shutil.get_terminal_size().columns - begin, 20)
    return text if len(text) <= space else text[: space - 1] + "…"
