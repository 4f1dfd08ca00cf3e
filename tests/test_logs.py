"""What is logged is bounded, one line, without secrets, and nothing that goes wrong with it reaches who logs."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from l02.bus.embedded.endpoint import Endpoint
from l02.domain.specification import AgentSpecification, ToolServer
from l02.handlers.sandbox.confinement.policy import SandboxPolicy
from l02.handlers.state.settings import StateSettings
from l02.logs import configure_logging
from l02.node.session_server import SessionSettings
from l02.node.settings import Settings

KEY = "sk-4711"
LOG = structlog.get_logger()


@pytest.fixture(autouse=True)
def configured_as_before() -> Iterator[None]:
    configured, before, handlers = structlog.is_configured(), structlog.get_config(), logging.root.handlers
    yield
    logging.root.handlers = handlers
    structlog.reset_defaults()
    if configured:
        structlog.configure(**before)


class Lines(io.StringIO):
    encoding = "utf-8"


def written(log_format: Any, log: Callable[[], object]) -> str:
    stream, before = Lines(), sys.stderr
    configure_logging(log_format)
    logging.root.handlers = logging.root.handlers[-1:]  # pytest's own raise what a record raises
    sys.stderr = stream
    try:
        log()
    finally:
        sys.stderr = before
    return stream.getvalue()


def logged(log_format: Any, event: str, **values: Any) -> str:
    return written(log_format, lambda: LOG.warning(event, **values))


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


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_a_line_is_bounded_with_its_escapes(log_format: str) -> None:
    wide = "\U000e0001" * 1_000
    values = {f"value_{number}": wide for number in range(30)}
    try:
        raise ValueError(wide) from KeyError(wide)
    except ValueError:
        said = logged(log_format, wide, exc_info=True, **values)
    assert 4_000 < len(said) <= 16_001
    assert all(name in said for name in values)


def test_the_newest_part_of_a_long_traceback_is_shown() -> None:
    error = ValueError("the first")
    for number in range(200):
        following = ValueError(f"number {number} " + "x" * 200)
        following.__cause__, error = error, following
    said = json.loads(logged("json", "failed", exc_info=error))["traceback"]
    assert "number 199" in said and "the first" not in said


def test_a_number_that_json_lacks_is_a_text() -> None:
    said = logged("json", "measured", least=float("-inf"), none=float("nan"), some=1.5)
    values = json.loads(said, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert (values["least"], values["none"], values["some"]) == ("-inf", "nan", 1.5)


async def lose_an_error() -> None:
    async def agent() -> None:
        raise ValueError("done\n2026-01-01T00:00:00 [error  ] forged \x1b[2J")

    task = asyncio.create_task(agent())
    await asyncio.wait([task])
    del task
    gc.collect()


def test_what_asyncio_logs_is_written_as_ours_is() -> None:
    said = written("json", lambda: asyncio.run(lose_an_error()))
    (line,) = said.splitlines()
    fields = json.loads(line)
    assert (fields["level"], fields["logger"]) == ("error", "asyncio")
    assert "never retrieved" in fields["event"] and "\n" not in fields["event"]
    text = written("text", lambda: asyncio.run(lose_an_error()))
    assert "\x1b" not in text
    assert not [line for line in text.splitlines()[1:] if not line.startswith("    ")]


def test_a_record_that_cannot_be_shown_is_said() -> None:
    said = written("text", lambda: logging.getLogger("library").error("%d of %d", "one"))
    assert "a record of the log cannot be shown: TypeError" in said


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
    url = f"postgresql://l02:{KEY}@db/l02"
    state, sessions = StateSettings(redis_url=url), SessionSettings(environment={"API_KEY": KEY})
    settings = Settings(data_dir=Path("/d"), nats_url=url, postgres_url=url, state=state, sessions=sessions)
    for holder in (state, sessions, settings, Endpoint(port=1, password=KEY)):
        assert KEY not in repr(holder)
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
