"""What is logged is bounded, one line, without secrets, and nothing that goes wrong with it reaches who logs."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any, NoReturn

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from domain.specification import AgentSpecification, ToolServer
from handlers.sandbox.policy import SandboxPolicy
from l02.logs import configure_logging

KEY = "sk-4711"
LOG = structlog.get_logger()


@pytest.fixture(autouse=True)
def configured_as_before() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


class Lines(io.StringIO):
    encoding = "utf-8"


def logged(log_format: Any, event: str, **values: Any) -> str:
    stream, before = Lines(), sys.stderr
    configure_logging(log_format)
    sys.stderr = stream
    try:
        LOG.warning(event, **values)
    finally:
        sys.stderr = before
    return stream.getvalue()


@given(st.text(), st.text() | st.binary() | st.floats() | st.dictionaries(st.text(), st.text()))
def test_whatever_is_logged_is_one_line(event: str, value: object) -> None:
    text = logged("text", event, value=value)
    assert text.endswith("\n") and text[:-1].isprintable()
    said = json.loads(logged("json", event, value=value))
    assert said.keys() == {"time", "level", "event", "value"}


def test_a_text_from_outside_forges_no_line_and_moves_no_cursor() -> None:
    said = logged("text", "exit", cause="done\n2026-01-01T00:00:00 [error  ] all is lost \x1b[2J\u2028\u202e")
    assert said.count("\n") == 1
    assert "\x1b" not in said and "\u2028" not in said and "\u202e" not in said
    assert "all is lost" in said


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_values_are_cut(log_format: str) -> None:
    began = time.thread_time()
    said = logged(log_format, "x" * 9_000_000, text="y" * 9_000_000, many=[{"z" * 1000: 1}] * 1_000_000)
    assert len(said) < 16_000
    assert "(8999000 characters cut)" in said
    assert time.thread_time() - began < 0.1


class Unspeakable:
    def __repr__(self) -> NoReturn:
        raise RuntimeError("no")


def test_what_cannot_be_shown_is_said() -> None:
    assert "<Unspeakable instance at 0x" in logged("text", "odd", value=Unspeakable())


def fails(secret: str, depth: int) -> NoReturn:
    if depth:
        fails(secret, depth - 1)
    raise ValueError("x" * 9_000_000)


@pytest.mark.parametrize("depth", [0, 500])
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_traceback_is_bounded_and_shows_no_variables(log_format: Any, depth: int) -> None:
    try:
        fails(KEY, depth)
    except ValueError:
        began = time.thread_time()
        said = logged(log_format, "failed", exc_info=True)
        assert time.thread_time() - began < 0.1
    assert "ValueError: xxx" in said and "in fails" in said
    assert KEY not in said
    assert len(said) < 16_000


def test_environments_are_not_shown() -> None:
    server = ToolServer(command=("server",), environment={"TOKEN": KEY})
    specification = AgentSpecification(name="a", command=("a",), environment={"API_KEY": KEY}, tools={"s": server})
    policy = SandboxPolicy(workspace="/tmp/w", environment={"API_KEY": KEY})
    for value in (specification, server, policy):
        assert KEY not in repr(value)
        assert KEY not in logged("text", "spawned", value=value)
    assert "API_KEY" in repr(specification) and "TOKEN" in repr(server)


@pytest.mark.parametrize("stderr", ["2>&-", "2>/dev/full", "2>/dev/null"])
def test_a_log_that_cannot_be_written_stops_nobody(stderr: str) -> None:
    program = (
        "import structlog; from l02.logs import configure_logging; configure_logging();"
        "structlog.get_logger().error('\\ud800 lost'); print('went on')"
    )
    script = f'exec "$@" {stderr}'
    done = subprocess.run(
        ["sh", "-c", script, "sh", sys.executable, "-c", program],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "went on\n"


def test_a_program_with_a_client_has_its_standard_output_for_itself() -> None:
    program = (
        "import structlog; from l02.logs import log_to_standard_error_by_default as by_default; by_default();"
        "structlog.get_logger().warning('reconnecting')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    assert "reconnecting" in done.stderr
