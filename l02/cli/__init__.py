"""The command line. What a command needs is imported when it runs, so that `l02 --help` is there at once."""

from __future__ import annotations

from typing import Annotated

import typer

from l02.cli import agents, budgets, checkpoints, config, executions, limits, mcp, node, top
from l02.cli.log import dead, events, maintenance, replay
from l02.cli.terminal.standard_streams import with_standard_streams

__all__ = ["app", "main"]

_HELP = """Run AI agents as events on NATS JetStream.

A command finds its node by --data-dir, then L02_NATS_URL, then the default data directory.

\b
Exit codes: 0 done; 1 refused or failed; 2 wrong usage; 3 no node or
server answers; 130 interrupted.
"""
_EXAMPLES = """\b
Example:
  l02 demo
  l02 up
  l02 spawn examples/historian.yaml --id h1    (in another terminal)
"""

app = typer.Typer(
    name="l02",
    help=_HELP,
    epilog=_EXAMPLES,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
node.add_to(app)
config.add_to(app)
agents.add_to(app)
executions.add_to(app)
top.add_to(app)
checkpoints.add_to(app)
budgets.add_to(app)
limits.add_to(app)
events.add_to(app)
replay.add_to(app)
dead.add_to(app)
maintenance.add_to(app)
mcp.add_to(app)


def _show_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"l02 {version('l02')}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """The options of the program itself."""


def main() -> None:
    """The `l02` program."""
    with_standard_streams(lambda: app(prog_name="l02"))
