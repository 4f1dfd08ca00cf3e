"""What is printed: results on standard output, everything about how it goes on standard error.

Text that comes from agents may hold anything; what would steer a terminal is shown as an escape.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

__all__ = [
    "counting",
    "print_json",
    "print_line",
    "print_pairs",
    "print_table",
    "print_value",
    "progress",
    "safe",
    "write",
]

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")
# Wide enough for any row: where no one looks at it, a table is for programs and nothing in it is cut off.
_UNBOUNDED = 100_000


def safe(text: str) -> str:
    """The text without what would steer a terminal; line breaks and tabs stay."""
    return _CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def write(text: str) -> None:
    """Text as it comes, at once; as it is for a program, safe for a terminal."""
    sys.stdout.write(safe(text) if sys.stdout.isatty() else text.encode("utf-8", "backslashreplace").decode())
    sys.stdout.flush()


def print_line(text: str) -> None:
    """One line of text, safe for a terminal."""
    sys.stdout.write(safe(text) + "\n")
    sys.stdout.flush()


def print_json(value: Any) -> None:
    """One JSON document on a line of its own."""
    import msgspec

    sys.stdout.write(msgspec.json.encode(value).decode() + "\n")
    sys.stdout.flush()


def print_value(value: Any) -> None:
    """A JSON value for people: text as it is, anything else laid out."""
    import msgspec

    text = value if isinstance(value, str) else msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    write(text if text.endswith("\n") else text + "\n")


def print_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table; the last column takes what space is left."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for heading in headings:
        last = heading == headings[-1]
        table.add_column(heading, no_wrap=True, overflow="ellipsis" if last else "fold")
    for row in rows:
        table.add_row(*(Text(safe(cell).replace("\n", " ")) for cell in row))
    _print(Console, table)


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
    _print(Console, table)


def _print(console_type: type[Console], table: Table) -> None:
    """Written by this module and not by rich, which exits when the reader of a pipe has gone."""
    console = console_type(file=sys.stdout, width=None if sys.stdout.isatty() else _UNBOUNDED)
    with console.capture() as captured:
        console.print(table)
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
