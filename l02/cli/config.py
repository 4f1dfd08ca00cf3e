"""`l02 config`: what a node would be told, and by whom, before it is started."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from l02.cli.options import AsJson
from l02.cli.running import reporting

Config = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="The settings file. Default: $L02_CONFIG.", show_default=False),
]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    group = typer.Typer(help="Look at a node's settings.", no_args_is_help=True, rich_markup_mode=None)
    group.command(epilog="Example: l02 config check l02.yaml")(check)
    group.command(epilog="Example: l02 config show --config l02.yaml")(show)
    app.add_typer(group, name="config")


def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The settings file.", show_default=False)],
    as_json: AsJson = False,
) -> None:
    """Say whether a node can be started with a settings file, and what is wrong with it if not."""
    with reporting(as_json):
        import msgspec

        from l02.cli.terminal.output import safe
        from l02.node.settings import Settings
        from l02.node.settings_file import secrets_seen_by_others

        Settings.from_environment(config=file)
        warning = secrets_seen_by_others(file)
        if as_json:
            typer.echo(msgspec.json.encode({"file": str(file), "warning": warning}))
            return
        typer.echo(safe(f"{file} can be used"))
        if warning:
            typer.echo(safe(f"warning: {warning}"), err=True)


def show(
    config: Config = None,
    data_dir: Annotated[Path | None, typer.Option("--data-dir", metavar="DIR", help="As of `l02 up`.")] = None,
    http_port: Annotated[int | None, typer.Option(min=0, max=65535, metavar="PORT", help="As of `l02 up`.")] = None,
    as_json: AsJson = False,
) -> None:
    """Show the settings that `l02 up` would have here, and where each comes from. Secrets are hidden."""
    with reporting(as_json):
        import msgspec

        from l02.cli.terminal.output import safe
        from l02.handlers.models.settings import as_shown
        from l02.node.settings import Settings, effective, effective_models, settings_file

        found = effective(config=config, data_dir=data_dir, http_port=http_port)
        models = effective_models(found, config=config)
        Settings.of(found, models)
        rows: list[dict[str, Any]] = [
            {
                "setting": name,
                "value": "(hidden)" if one.setting.secret and one.value else one.value,
                "origin": one.origin,
                "place": None if one.origin == "default" else one.place,
            }
            for name, one in found.items()
        ]
        rows += [
            {"setting": f"models.{name}", "value": value, "origin": "file", "place": str(settings_file(config))}
            for name, value in as_shown(models).items()
        ]
        if as_json:
            typer.echo(msgspec.json.encode(rows, enc_hook=str))
            return
        for row in rows:
            value = msgspec.json.encode(row["value"], enc_hook=str).decode()
            typer.echo(safe(f"{row['setting']:<48} {value:<12} {row['place'] or 'default'}"))
