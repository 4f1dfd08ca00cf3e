"""The commands about what agents work on and what they have in hand: their executions, their durable state."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from l02.cli.options import AgentId, AsJson, DataDir
from l02.cli.running import run_with_client
from l02.cli.terminal.agent_text import usd
from l02.cli.terminal.output import print_result, print_table, print_value
from l02.cli.terminal.paging import all_pages

if TYPE_CHECKING:
    from l02.client.client import Client
    from l02.projections.folds.executions import ExecutionView

_HEADINGS = ("EXECUTION", "AGENT", "STATE", "CALLS", "TOKENS", "USD", "SECONDS", "STARTED", "ERROR")


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command(epilog="Example: l02 executions h1 --state failed")(executions)
    app.command(epilog="Example: l02 state h1")(state)


def executions(
    agent_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="Only those of this agent.", show_default=False)
    ] = None,
    state: Annotated[
        str | None, typer.Option(metavar="STATE", help="running, completed or failed (held ones too).")
    ] = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="How many, the latest first.")] = 100,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """List the executions of an agent, or of all, the latest first."""

    def name(view: ExecutionView) -> str:
        return view.execution_id if agent_id is not None else f"{view.agent_id}/{view.execution_id}"

    async def work(client: Client) -> None:
        found = await all_pages(
            lambda size, after: client.executions(agent_id, state=state, limit=size, after=after), name, limit=limit
        )
        print_result(found, as_json, lambda: print_table(_HEADINGS, map(_row, found)))

    run_with_client(work, data_dir=data_dir, as_json=as_json)


def _row(view: ExecutionView) -> tuple[str, ...]:
    return (
        view.execution_id,
        view.agent_id,
        "held" if view.held else view.state.value,
        str(view.calls),
        str(view.tokens),
        usd(view.cost_usd),
        "-" if view.duration_seconds is None else f"{view.duration_seconds:.3f}",
        f"{view.started_at:%Y-%m-%d %H:%M:%S}",
        f"{view.error.code}: {view.error.message}" if view.error else "",
    )


def state(agent_id: AgentId, data_dir: DataDir = None, as_json: AsJson = False) -> None:
    """Show an agent's durable state, `ctx.state`, as it is now; with --json also the version that it is of."""

    async def work(client: Client) -> None:
        found = await client.state(agent_id)
        print_result(found, as_json, lambda: print_value(found.state))

    run_with_client(work, data_dir=data_dir, as_json=as_json)
