"""Tables on terminals of any width: ids and numbers are shown whole or not at all, and it is said which are not."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from l02.cli.terminal.output import print_table

HEADINGS = ("ID", "NAME", "TOKENS", "NODE")
CELLS = st.tuples(
    st.text("abcdef0123456789-_", min_size=1, max_size=60),
    st.text(max_size=60),
    st.integers(0, 10**30).map(str),
    st.text("node-0123456789", min_size=1, max_size=40),
)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def printed(width: int, rows: Sequence[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setattr(sys, "stdout", terminal := Terminal())
    print_table(HEADINGS, rows, text="NAME")
    return terminal.getvalue().split("\n")[:-1]


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(CELLS, min_size=1, max_size=4), width=st.integers(1, 200))
def test_nothing_but_text_is_cut(rows: list[tuple[str, ...]], width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    heading, *lines = printed(width, rows, monkeypatch)
    shown = heading.split()
    assert tuple(shown) == HEADINGS[: len(shown)] != ()
    if len(shown) < len(HEADINGS):
        assert lines.pop() == f"(too narrow for {', '.join(HEADINGS[len(shown) :])}; --json has all)"
    for row, line in zip(rows, lines, strict=True):
        assert line.startswith(row[0])
        rest = line[len(row[0]) :]
        for at, value in enumerate(row):
            if at >= 2 and at < len(shown):
                assert f"  {value}" in rest
        assert cell_len(line) <= width or len(shown) == 1


def test_a_narrow_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [("h1", "an historian of many words", "1234567", "node-1"), ("h2", "short", "8", "node-12")]
    assert printed(40, rows, monkeypatch) == [
        "ID  NAME                TOKENS   NODE",
        "h1  an historian of m…  1234567  node-1",
        "h2  short               8        node-12",
    ]
    assert printed(30, rows, monkeypatch) == [
        "ID  NAME               TOKENS",
        "h1  an historian of …  1234567",
        "h2  short              8",
        "(too narrow for NODE; --json has all)",
    ]
    assert printed(1, rows, monkeypatch) == ["ID", "h1", "h2", "(too narrow for NAME, TOKENS, NODE; --json has all)"]


def test_a_table_that_no_one_looks_at_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setattr(sys, "stdout", output := io.StringIO())
    print_table(HEADINGS, [("h1", "x" * 300, "1", "n1")])
    assert output.getvalue() == f"ID  NAME{' ' * 298}TOKENS  NODE\nh1  {'x' * 300}  1       n1\n"
