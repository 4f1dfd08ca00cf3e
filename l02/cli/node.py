"""`l02 up` and `l02 demo`: a node in the foreground."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Annotated, Literal

import typer

from l02.cli.config import Config
from l02.cli.options import AsJson
from l02.cli.running import reporting

LogFormat = Literal["text", "json"]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command(epilog="Example: l02 up --data-dir ~/agents --http-port 8080")(up)
    app.command(epilog="Example: l02 demo")(demo)


def collect_garbage_less_often() -> None:
    """A node makes many objects for each command and hardly a cycle: looking for those took an eighth of its time."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def up(
    data_dir: Annotated[
        Path | None,
        typer.Option(
            "--data-dir",
            metavar="DIR",
            help="Where the node keeps everything. Default: $L02_DATA_DIR, $XDG_DATA_HOME/l02 or ~/.local/share/l02.",
            show_default=False,
        ),
    ] = None,
    http_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, metavar="PORT", help="0: any free one. Default: $L02_HTTP_PORT, else 0."),
    ] = None,
    config: Config = None,
    log_format: Annotated[LogFormat, typer.Option(help="Of the log (standard error).")] = "text",
    as_json: AsJson = False,
) -> None:
    """Run a node until it is stopped with Ctrl-C or SIGTERM.

    It brings its own NATS and PostgreSQL servers, unless L02_NATS_URL and L02_POSTGRES_URL name others.
    Once it is ready, DIR/l02.json says how to reach it. With --json, errors are JSON.
    """
    with reporting(as_json):
        import structlog

        from l02.logs import configure_logging
        from l02.node.settings import Settings, settings_file
        from l02.node.settings_file import secrets_seen_by_others

        def read_settings() -> Settings:
            return Settings.from_environment(config=config, data_dir=data_dir, http_port=http_port)

        settings = read_settings()
        configure_logging(log_format)
        file = settings_file(config)
        if file and (warning := secrets_seen_by_others(file)):
            structlog.get_logger().warning(warning)
        from l02.node.running import run_node

        collect_garbage_less_often()
        run_node(settings, read_settings, log_format)


def demo(as_json: AsJson = False) -> None:
    """Show the main job: agents at work, one of them killed in the middle, and all of it in the log."""
    with reporting(as_json):
        from l02.cli.demo.run import run_demo

        raise typer.Exit(run_demo(json=as_json))
