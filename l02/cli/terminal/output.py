"""What is printed: results on standard output, everything about how it goes on standard error.

Text that comes from agents may hold anything; what would steer a terminal is shown as an escape.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

# Wide enough for any row: where no one looks at it, a table is for programs and nothing in it is cut off.
_UNBOUNDED = 100_000
_GAP = 2
_LEAST_TEXT = 12


def safe(text: str) -> str:
    """The text without what would steer a terminal; line breaks and tabs stay."""
    from l02.domain.printable import on_terminal

    return on_terminal(text)


def write(text: str) -> None:
    """Text as it comes, at once; as it is for a program, safe for a terminal."""
    sys.stdout.write(safe(text) if sys.stdout.isatty() else text)
    sys.stdout.flush()


def print_line(text: str) -> None:
    """One line of text, safe for a terminal."""
    sys.stdout.write(safe(text) + "\n")
    sys.stdout.flush()


def print_json(value: Any) -> None:
    """One JSON document on a line of its own; on a terminal with more of it escaped, which is the same JSON."""
    import msgspec

    write(msgspec.json.encode(value).decode() + "\n")


def print_result(value: Any, as_json: bool, show: Callable[[], None]) -> None:
    """What a command has to say: the value as JSON, or as it is shown to people."""
    if as_json:
        print_json(value)
    else:
        show()


def print_done(value: Any, line: str, as_json: bool) -> None:
    """What a command has done: as JSON, or in a line for people."""
    print_result(value, as_json, lambda: print_line(line))


def print_value(value: Any) -> None:
    """A JSON value for people: text as it is, anything else laid out."""
    import msgspec

    text = value if isinstance(value, str) else msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    write(text if text.endswith("\n") else text + "\n")


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]], *, text: str | None = None) -> None:
    """A table. On a terminal that is too narrow, the column `text` (the last one if left out) is cut, with an ellipsis.

    An id or a number is never cut; rather are whole columns left out, from the right, and their names said at the end.
    """
    from rich.cells import cell_len, set_cell_size

    cells = [list(headings), *([safe(cell).replace("\n", " ") for cell in row] for row in rows)]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    cuttable = headings.index(text or headings[-1])
    room = (shutil.get_terminal_size().columns if sys.stdout.isatty() else _UNBOUNDED) + _GAP
    least = [min(width, _LEAST_TEXT) if at == cuttable else width for at, width in enumerate(widths)]
    shown = max((n for n in range(1, len(least) + 1) if sum(least[:n]) + _GAP * n <= room), default=1)
    if cuttable < shown:
        others = sum(widths[:shown]) - widths[cuttable] + _GAP * shown
        widths[cuttable] = max(min(widths[cuttable], room - others), least[cuttable])
    for row in cells:
        line = (
            set_cell_size(cell if cell_len(cell) <= width else set_cell_size(cell, width - 1) + "…", width + _GAP)
            for cell, width in zip(row[:shown], widths, strict=False)
        )
        sys.stdout.write("".join(line).rstrip() + "\n")
    if headings[shown:]:
        sys.stdout.write(f"(too narrow for {', '.join(headings[shown:])}; --json has all)\n")
    sys.stdout.flush()


def print_pairs(pairs: Iterable[tuple[str, str]]) -> None:
    """Names and values, one a line; a value may have several lines."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in pairs:
        table.add_row(name, Text(safe(value)))
    console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else _UNBOUNDED)
    with console.capture() as captured:
        console.print(table)
    # Written by this module and not by rich, which exits when the reader of a pipe has gone.
    sys.stdout.write(re.sub(r" +$", "", captured.get(), flags=re.MULTILINE))
    sys.stdout.flush()


@contextmanager
def progress(what: str, *, quiet: bool = False) -> Iterator[None]:
    """Show on a terminal that something is under way."""
    if quiet or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(what):
        yield


@contextmanager
def counting(what: str, *, quiet: bool = False) -> Iterator[Callable[[int, int], None]]:
    """Show on a terminal how far something is: what this gives is to be called with how many of how many."""
    if quiet or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
