"""The commands about checkpoints: take one, list them, go back to one, begin another agent from one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from l02.cli.options import AgentId, AsJson, DataDir
from l02.cli.running import run_with_client
from l02.cli.terminal.output import print_done, print_json, print_line, print_result, print_table, progress
from l02.cli.terminal.paging import all_pages

if TYPE_CHECKING:
    from l02.client.client import Client
    from l02.projections.folds.checkpoints import CheckpointView

_HEADINGS = ("CHECKPOINT", "TYPE", "STATE", "AT VERSION", "BYTES", "STORED", "TAKEN", "LABEL")
CheckpointId = Annotated[
    str, typer.Argument(metavar="CHECKPOINT", help="Its id; see l02 checkpoints.", show_default=False)
]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command(epilog="Example: l02 checkpoint h1 --label 'before the move'")(checkpoint)
    app.command(epilog="Example: l02 checkpoints h1")(checkpoints)
    app.command(epilog="Example: l02 restore h1 CHECKPOINT")(restore)
    app.command(epilog="Example: l02 fork h1 --at 120 --id h2")(fork)


def checkpoint(
    agent_id: AgentId,
    label: Annotated[str | None, typer.Option(metavar="TEXT", help="A name for people.")] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Store a checkpoint of an agent and print its id; if nothing has changed, that of the newest one."""

    async def work(client: Client) -> None:
        checkpoint_id = await client.checkpoint(agent_id, label)
        print_done({"checkpoint_id": checkpoint_id}, checkpoint_id, as_json)

    run_with_client(work, data_dir=data_dir, as_json=as_json)


def checkpoints(
    agent_id: AgentId,
    every: Annotated[bool, typer.Option("--all", help="Also those that have failed or expired.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List an agent's checkpoints, the latest first."""

    async def work(client: Client) -> None:
        found = await all_pages(
            lambda size, after: client.checkpoints(agent_id, every=every, limit=size, after=after),
            lambda view: view.checkpoint_id,
        )
        print_result(found, as_json, lambda: print_table(_HEADINGS, map(_row, found)))

    run_with_client(work, data_dir=data_dir, as_json=as_json)


def _row(view: CheckpointView) -> tuple[str, ...]:
    numbers = (view.version, view.size_bytes, view.compressed_bytes)
    return (
        view.checkpoint_id,
        view.checkpoint_type,
        view.state.value,
        *("-" if number is None else str(number) for number in numbers),
        f"{view.created_at or view.requested_at:%Y-%m-%d %H:%M:%S}",
        view.label or (f"{view.error.code}: {view.error.message}" if view.error else ""),
    )


def restore(agent_id: AgentId, checkpoint_id: CheckpointId, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Bring an agent's durable state back to a checkpoint; work under way ends, its past stays on record."""

    async def work(client: Client) -> None:
        with progress(f"restoring {agent_id}", quiet=as_json):
            outcome = await client.restore(agent_id, checkpoint_id)
        if as_json:
            print_json(outcome)
        elif outcome.events:
            print_line(f"{agent_id} is as it was at checkpoint {checkpoint_id}")
        else:
            print_line(f"{agent_id} is still as it was at checkpoint {checkpoint_id}")

    run_with_client(work, data_dir=data_dir, as_json=as_json)


def fork(
    agent_id: AgentId,
    point: Annotated[
        str | None,
        typer.Option(
            "--at",
            metavar="SEQ|CHECKPOINT",
            help="The last event to take over (one yet to come: now), or a checkpoint. Default: now.",
        ),
    ] = None,
    new_id: Annotated[
        str | None, typer.Option("--id", metavar="NEW", help="Default: the agent's id and six random digits.")
    ] = None,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Make a new agent of another one's past and wait until it runs. The other one is not touched."""
    is_sequence = point is not None and point.isdecimal()

    async def work(client: Client) -> None:
        with progress(f"forking {agent_id}", quiet=as_json):
            result = await client.fork(
                agent_id,
                new_id,
                at=int(point) if point is not None and is_sequence else None,
                checkpoint_id=None if is_sequence else point,
            )
        print_done(result, f"{result.agent_id} runs on {result.node_id}", as_json)

    run_with_client(work, data_dir=data_dir, as_json=as_json)
