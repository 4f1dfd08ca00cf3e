"""How the runtime logs: one line an event, bounded, to standard error; whatever is in it and wherever it goes.

Texts from agents, servers and clients stand in the values. So each value and the line are cut, control characters are
escaped (no text can make a line of its own, or speak to a terminal), tracebacks show no values of variables, and
nothing that goes wrong in logging reaches who logs.
"""

from __future__ import annotations

import json
import logging
import math
import reprlib
import sys
import traceback
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal

import structlog

from l02.domain.printable import in_log

LogFormat = Literal["text", "json"]

_VALUE_CHARACTERS = 1_000
_TRACEBACK_CHARACTERS = 8_000
_LINE_CHARACTERS = 16_000
_FRAMES = 30
_PARTS = 200
_EVENT_WIDTH = 40

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = _VALUE_CHARACTERS
_repr.maxdict = _repr.maxlist = _repr.maxtuple = _repr.maxset = _repr.maxfrozenset = 20

_Render = Callable[[dict[str, Any]], str]
_Rendered = Callable[[object, str, Any], str]


def configure_logging(log_format: LogFormat = "text", level: int = logging.INFO) -> None:
    """Log to standard error from now on, in lines for people or as JSON for machines.

    What asyncio and libraries log, from warnings on, is written the same way: their texts hold others' errors.
    """
    rendered = _renderer(_as_json if log_format == "json" else _as_text)
    _configure(rendered, level)
    ours = _FromLibraries(rendered, max(level, logging.WARNING))
    logging.root.handlers = [one for one in logging.root.handlers if not isinstance(one, _FromLibraries)] + [ours]


def say_on_standard_error(text: str) -> None:
    """Say something to the person who has started this; it is lost if nobody can hear it."""
    _StandardError().msg(text)


def log_to_standard_error_by_default() -> None:
    """The same for a program that has not said how it logs: its standard output is its own."""
    if not structlog.is_configured():
        _configure(_renderer(_as_text), logging.INFO)


def log_events_to_standard_error() -> None:
    """For a command: what the connection has to say stands beside its result, without values."""
    _configure(lambda _, __, event: f"l02: {_shown(event.get('event', ''))}", logging.WARNING)


def _configure(rendered: _Rendered, level: int) -> None:
    structlog.configure(
        processors=[rendered],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=_StandardError,
        cache_logger_on_first_use=False,
    )


class _StandardError:
    """Writes lines; one that cannot be written is lost."""

    def __init__(self, *_: object) -> None:
        pass

    def msg(self, line: str) -> None:
        try:
            stream = sys.stderr
            encoding = getattr(stream, "encoding", None) or "utf-8"
            stream.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
            stream.flush()
        except (OSError, ValueError, AttributeError, LookupError):
            return  # closed, full, or none: there is nobody to tell

    log = debug = info = warn = warning = error = err = critical = exception = fatal = failure = msg


class _FromLibraries(logging.Handler):
    """Records of the standard library's logging, written as ours are."""

    def __init__(self, rendered: _Rendered, level: int) -> None:
        super().__init__(level)
        self._rendered = rendered

    def emit(self, record: logging.LogRecord) -> None:
        try:
            event = record.getMessage()
        except Exception as error:
            event = f"a record of the log cannot be shown: {type(error).__name__}"
        fields = {"event": event, "logger": record.name, "exc_info": record.exc_info}
        _StandardError().msg(self._rendered(None, record.levelname.lower(), fields))


def _renderer(render: _Render) -> _Rendered:
    def rendered(_: object, level: str, event: Any) -> str:
        try:
            fields = {str(name): value for name, value in event.items()}
            said: dict[str, Any] = {
                "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "level": level,
                "event": _shown(fields.pop("event", "")),
            }
            raised = fields.pop("exc_info", None)
            said |= {name: value if _is_plain(value) else _shown(value) for name, value in fields.items()}
            if raised:
                said["traceback"] = _traceback(raised)
            return _fitted(render, said)
        except Exception as error:
            return f"a line of the log cannot be shown: {type(error).__name__}"

    return rendered


def _is_plain(value: object) -> bool:
    """A truth value, or a number that JSON has."""
    if type(value) is float:
        return math.isfinite(value)
    return type(value) is bool or (type(value) is int and value.bit_length() < 64)


def _fitted(render: _Render, said: dict[str, Any]) -> str:
    """The line; escapes can make it several times what its values are, so these are halved until it fits."""
    most = _TRACEBACK_CHARACTERS
    while len(line := render(dict(said))) > _LINE_CHARACTERS and most:
        most //= 2
        said = {name: _cut(name, value, most) for name, value in said.items()}
    return line


def _cut(name: str, value: Any, most: int) -> Any:
    if not isinstance(value, str) or len(value) <= most:
        return value
    return "…" + value[len(value) - most :] if name == "traceback" else value[:most] + "…"


def _as_text(said: dict[str, Any]) -> str:
    time, level, event = said.pop("time"), said.pop("level"), said.pop("event")
    lines = said.pop("traceback", "")
    values = " ".join(f"{name}={_quoted(value)}" for name, value in said.items())
    first = f"{time} [{level:<7}] {event:<{_EVENT_WIDTH if values else 0}} {values}".rstrip()
    indented = "".join(f"\n    {in_log(line)}" for line in lines.splitlines())
    return first + indented


def _as_json(said: dict[str, Any]) -> str:
    return json.dumps(said, default=str)


def _quoted(value: object) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if not text or set(text) & set(" =\"'") else text


def _shown(value: object) -> str:
    text = value if isinstance(value, str) else _repr.repr(value)
    cut = len(text) - _VALUE_CHARACTERS
    return in_log(text[:_VALUE_CHARACTERS]) + (f"… ({cut} characters cut)" if cut > 0 else "")


def _traceback(raised: object) -> str:
    """Without the values of variables, which may be large and secret; the newest part if it is long."""
    error = raised if isinstance(raised, BaseException) else None
    if isinstance(raised, tuple) and len(raised) == 3 and isinstance(raised[1], BaseException):
        error = raised[1]
    elif error is None:
        error = sys.exception() if hasattr(sys, "exception") else sys.exc_info()[1]
    if error is None:
        return ""
    frames: TracebackType | None = error.__traceback__
    shown = traceback.TracebackException(type(error), error, frames, limit=-_FRAMES, compact=True)
    parts = (part if len(part) <= _VALUE_CHARACTERS else part[:_VALUE_CHARACTERS] + "…\n" for part in shown.format())
    return str(_cut("traceback", "".join(deque(parts, _PARTS)).rstrip(), _TRACEBACK_CHARACTERS))
