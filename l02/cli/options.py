"""The options and arguments that several commands have, and how their words become values."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", metavar="DIR", help="The data directory of the node to talk to.", show_default=False),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
AgentId = Annotated[str, typer.Argument(metavar="ID", help="The agent's id.", show_default=False)]

_DURATION = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def group(app: typer.Typer, name: str, help: str, example: str) -> typer.Typer:
    """Commands with a name in common."""
    commands = typer.Typer(
        name=name, help=help, epilog=f"Example: {example}", no_args_is_help=True, rich_markup_mode=None
    )
    app.add_typer(commands)
    return commands


def json_or_text(words: str) -> Any:
    """JSON if it is JSON, else the text itself; `-` is what comes on standard input, `@FILE` what is in the file."""
    import msgspec

    text = _decoded(words)
    try:
        return msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError):
        return text


def json_object(words: str, option: str) -> dict[str, Any]:
    """A JSON object given to an option; `-` and `@FILE` as in `json_or_text`."""
    value = json_or_text(words)
    if not isinstance(value, dict):
        raise typer.BadParameter("it must be a JSON object", param_hint=option)
    return value


def _decoded(words: str) -> str:
    try:
        if words == "-":
            return sys.stdin.buffer.read().decode()
        if words.startswith("@"):
            return Path(words[1:]).read_bytes().decode()
        words.encode()
    except OSError as error:
        place = "standard input" if words == "-" else words[1:]
        raise typer.BadParameter(f"{place} cannot be read: {error.strerror}") from error
    except UnicodeError as error:
        raise typer.BadParameter("the input is not UTF-8; encode other bytes, for instance as base64") from error
    return words


def point_in_log(words: str | None) -> int | datetime | None:
    """A sequence number, an RFC 3339 time, or a duration before now such as `90s`, `10m`, `2h` or `1d`."""
    if words is None:
        return None
    if match := _DURATION.fullmatch(words):
        try:
            return datetime.now(UTC) - timedelta(**{_UNITS[match[2]]: float(match[1])})
        except OverflowError as error:
            raise typer.BadParameter(f"{words!r} is before all time") from error
    try:
        return int(words) if words.isdecimal() else datetime.fromisoformat(words).astimezone()
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(
            f"{words!r} is none of: a sequence number (120), a time (2026-01-31T12:00:00Z), a duration (10m)"
        ) from error
