"""The program's standard streams, whatever they are: closed, full, nobody at their other end, or of another encoding.

A stream that is closed gets its descriptor back, so that no socket or file takes its place; using it fails as an
operating system's stream fails. What an encoding lacks is written as an escape, which in JSON is the same character.
Standard output that cannot be written ends the program: quietly if its reader has seen enough, else with a line on
standard error and exit code 1. What cannot be said on standard error is lost, as there is nobody to tell.
"""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn, TextIO

_STDIN, _STDOUT, _STDERR = range(3)
_ESCAPES = "l02-escapes"
_FAILED = 1


class OutputLost(Exception):
    """Standard output cannot be written; it is over with the program."""


def with_standard_streams(run: Callable[[], None]) -> None:
    """Run the program with streams as this module says; exits if standard output is lost."""
    codecs.register_error(_ESCAPES, _escape)
    _fill_closed_descriptors()
    if sys.stdin is None:
        sys.stdin = open(_STDIN, encoding="utf-8", closefd=False)  # noqa: SIM115
    output = _Output(_STDOUT, "w", closefd=False)
    sys.stdout = _text(output, sys.stdout)
    sys.stderr = _text(_Errors(_STDERR, "w", closefd=False), sys.stderr)
    try:
        run()
    finally:
        with suppress(OutputLost):  # known to `output`, as any loss is, whoever may have caught it
            sys.stdout.flush()
        if output.lost is not None:
            _end(output.lost)


def _end(lost: OSError) -> NoReturn:
    if isinstance(lost, BrokenPipeError):
        sys.exit(0)
    sys.stderr.write(f"standard output cannot be written: {lost.strerror}\n")
    sys.exit(_FAILED)


class _Output(io.FileIO):
    """Fails once, and from then on takes what Python still has for it."""

    lost: OSError | None = None

    def write(self, data: Any, /) -> int:
        if self.lost is None:
            try:
                return super().write(data)
            except OSError as error:
                self.lost = error
                raise OutputLost(error.strerror) from error
        return memoryview(data).nbytes


class _Errors(io.FileIO):
    """Never fails."""

    def write(self, data: Any, /) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def _text(raw: io.FileIO, before: TextIO | None) -> TextIO:
    encoding = before.encoding if before is not None else "utf-8"
    buffered = io.BufferedWriter(raw)
    return io.TextIOWrapper(buffered, encoding, _ESCAPES, line_buffering=True)


def _fill_closed_descriptors() -> None:
    """Input and output are opened for the other direction, so that using them is an error and no silence."""
    for number in (_STDIN, _STDOUT, _STDERR):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDONLY if number == _STDOUT else os.O_WRONLY)
            assert opened == number, "the lowest that is free"
            os.set_inheritable(number, True)


def _escape(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    from l02.domain.printable import escaped

    return escaped(error.object[error.start : error.end]), error.end
