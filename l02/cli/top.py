"""`l02 top`: what agents do and take now, in a table that goes on until it is told to end."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from l02.cli.options import AsJson, DataDir
from l02.cli.running import run_with_client
from l02.cli.terminal.output import print_json, print_table, safe

if TYPE_CHECKING:
    from rich.table import Table

    from l02.client.client import Client
    from l02.client.live_views import Live

_HEADINGS = ("ID", "STATE", "WORK", "CPU", "MEMORY", "TOKENS/MIN", "TOKENS", "SPEND", "LEFT")
_RESTING_SECONDS = 1.0
_LINES_AROUND = 3


class Sort(Enum):
    """What the table is sorted by."""

    cpu = "cpu"
    memory = "memory"
    tokens = "tokens"
    spend = "spend"
    left = "left"
    id = "id"


_KEYS: dict[Sort, Callable[[dict[str, Any]], Any]] = {
    Sort.cpu: lambda row: -(row["cpu_cores"] or 0),
    Sort.memory: lambda row: -(row["memory_bytes"] or 0),
    Sort.tokens: lambda row: (-(row["tokens_per_minute"] or 0), -row["tokens"]),
    Sort.spend: lambda row: -row["cost_usd"],
    Sort.left: lambda row: 1.0 if row["left"] is None else row["left"]["part"],
    Sort.id: lambda row: row["id"],
}


def add_to(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command(epilog="Example: l02 top --sort memory")(top)


def top(
    sort: Annotated[Sort, typer.Option(help="The largest first; of `left`, the least.")] = Sort.cpu,
    once: Annotated[bool, typer.Option("--once", help="Print it once and end.")] = False,
    data_dir: DataDir = None,
    as_json: AsJson = False,
) -> None:
    """Show what agents do and take now, until interrupted: those that have not ended.

    CPU is in hundredths of a core. LEFT is the part that is left of the closest limit on its models, its own or a
    budget's. Where standard output is no terminal the table is printed once; with --json a list a line, again when it
    has changed.
    """

    async def work(client: Client) -> None:
        if as_json or once or not sys.stdout.isatty():
            await _print(client, sort, as_json=as_json, once=once or not as_json)
        else:
            await _show(client, sort)

    run_with_client(work, data_dir=data_dir, as_json=as_json)


async def _print(client: Client, sort: Sort, *, as_json: bool, once: bool) -> None:
    async with aclosing(_seconds(client)) as lives:
        async for live in lives:
            rows = _rows(live, sort)
            if as_json:
                print_json(rows)
            else:
                print_table(_HEADINGS, map(_cells, rows), text="ID")
            if once:
                return


async def _show(client: Client, sort: Sort) -> None:
    """On the whole terminal, which is again as it was at the end."""
    from rich.console import Console
    from rich.live import Live as Screen

    console = Console()
    with Screen(console=console, screen=True, auto_refresh=False) as screen:
        async with aclosing(_seconds(client)) as lives:
            async for live in lives:
                screen.update(_table(_rows(live, sort), console.size.height - _LINES_AROUND), refresh=True)


async def _seconds(client: Client) -> AsyncGenerator[Live, None]:
    """What there is at once, then whenever it has changed, at most once a second."""
    import asyncio

    from l02.bus.background.cancelling import end

    newest: list[Live] = []
    changed = asyncio.Event()

    async def follow() -> None:
        async with aclosing(client.watch_live()) as lives:
            async for live in lives:
                newest[:] = [live]
                changed.set()

    following = asyncio.create_task(follow())
    following.add_done_callback(lambda _: changed.set())
    try:
        while True:
            await changed.wait()
            changed.clear()
            if following.done():
                following.result()
                return
            yield newest[0]
            await asyncio.sleep(_RESTING_SECONDS)
    finally:
        await end(following)


def _table(rows: Sequence[dict[str, Any]], room: int) -> Table:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, caption=f"{len(rows)} agents; Ctrl-C ends", caption_justify="left")
    for heading in _HEADINGS:
        table.add_column(heading, justify="left" if heading in ("ID", "STATE", "LEFT") else "right", no_wrap=True)
    for row in rows[: max(room, 1)]:
        table.add_row(*(Text(safe(cell)) for cell in _cells(row)))
    return table


def _rows(live: Live, sort: Sort) -> list[dict[str, Any]]:
    """An object for each agent, as `--json` shows it."""
    from msgspec import to_builtins

    rows = []
    for agent in live.agents.values():
        usage, left = live.usage_of(agent), live.left_of(agent)
        rows.append(
            {
                "id": agent.id,
                "name": agent.name,
                "state": agent.state.value,
                "node_id": agent.node_id,
                "open_executions": len(agent.open_executions),
                "cpu_cores": usage.cpu_cores if usage else None,
                "memory_bytes": usage.memory_bytes if usage else None,
                "tokens": agent.tokens,
                "tokens_per_minute": usage.tokens_per_minute if usage else None,
                "cost_usd": agent.cost_usd,
                "left": None if left is None else to_builtins(left),
            }
        )
    return sorted(sorted(rows, key=lambda row: str(row["id"])), key=_KEYS[sort])


def _cells(row: dict[str, Any]) -> Sequence[str]:
    left = row["left"]
    return (
        row["id"],
        row["state"],
        str(row["open_executions"]),
        "-" if row["cpu_cores"] is None else f"{100 * row['cpu_cores']:.0f}%",
        "-" if row["memory_bytes"] is None else f"{row['memory_bytes'] / (1 << 20):.0f}Mi",
        "-" if row["tokens_per_minute"] is None else f"{row['tokens_per_minute']:.0f}",
        str(row["tokens"]),
        f"${row['cost_usd']:.4f}" if row["cost_usd"] else "-",
        "-" if left is None else f"{100 * left['part']:.0f}% {left['limit']} {left['budget'] or ''}".rstrip(),
    )
