"""Commands on a real node whose standard streams are closed, full, without a reader or of another encoding."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Awaitable, Callable, Iterator

import pytest

from l02.client.client import Client
from l02.node.running import Node

Spawn = Callable[..., Awaitable[str]]
TEXT = "naïve 東京 🦜"
# Closes the descriptors that its first word names (none if that is "-"), and becomes the command line.
LAUNCHER = """
import os, sys
for number in sys.argv[1].split(","):
    if number != "-":
        os.close(int(number))
os.execv(sys.executable, [sys.executable, "-m", "l02.cli", *sys.argv[2:]])
"""
ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


async def l02(
    node: Node,
    *words: str,
    closed: str = "-",
    stdout: int = PIPE,
    given: bytes | None = None,
    environment: dict[str, str] | None = None,
) -> tuple[int, bytes | None, str]:
    """Exit code, output and errors."""
    servers = {"L02_NATS_URL": node.runtime["nats_url"], "L02_POSTGRES_URL": node.runtime["postgres_url"]}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", LAUNCHER, closed, *words),
        env=os.environ | servers | (environment or {}),
        stdin=DEVNULL if given is None else PIPE,
        stdout=stdout,
        stderr=PIPE,
    )
    async with asyncio.timeout(60):
        output, errors = await process.communicate(given)
    assert process.returncode is not None
    return process.returncode, output, errors.decode()


@pytest.fixture
def full() -> Iterator[int]:
    """A file on which there is never space."""
    descriptor = os.open("/dev/full", os.O_WRONLY)
    yield descriptor
    os.close(descriptor)


async def test_output_that_cannot_be_written(node: Node, client: Client, spawn: Spawn, full: int) -> None:
    agent_id = await spawn()
    await client.checkpoint(agent_id)
    said = "standard output cannot be written: {}\n"
    for words in (["--help"], ["ps"], ["show", agent_id, "--json"], ["events"], ["exec", agent_id, "{}", "--stream"]):
        code, _, errors = await l02(node, *words, stdout=full)
        assert (words, code, errors) == (words, 1, said.format("No space left on device"))
    for words in (["--version"], ["checkpoints", agent_id], ["errors", "--json"], ["exec", agent_id, "{}"]):
        code, _, errors = await l02(node, *words, closed="1")
        assert (words, code, errors) == (words, 1, said.format("Bad file descriptor"))
    assert (await client.get(agent_id)).executions_completed == 2, "what was asked for was done"


async def test_a_reader_that_has_gone(node: Node, spawn: Spawn) -> None:
    agent_id = await spawn()
    for words in (["--help"], ["errors"], ["show", agent_id], ["events", "--json"]):
        ours, theirs = os.pipe()
        os.close(ours)
        try:
            assert (words, *(await l02(node, *words, stdout=theirs))) == (words, 0, None, "")
        finally:
            os.close(theirs)


async def test_errors_that_nobody_hears(node: Node, spawn: Spawn) -> None:
    for closed in ("2", "0,1,2"):
        assert await l02(node, "show", "nobody", closed=closed) == (1, b"", "")
        assert (await l02(node, "no-such-command", closed=closed))[0] == 2
    agent_id = await spawn()
    code, output, _ = await l02(node, "show", agent_id, "--json", closed="0,2")
    assert (code, json.loads(output or b"")["id"]) == (0, agent_id)


async def test_input_that_cannot_be_read(node: Node, spawn: Spawn) -> None:
    agent_id = await spawn()
    code, output, errors = await l02(node, "exec", agent_id, "-", closed="0")
    assert (code, output) == (2, b"")
    assert errors.endswith("standard input cannot be read: Bad file descriptor\n")
    code, _, errors = await l02(node, "exec", agent_id, "-", given=b"\xff\xfe")
    assert code == 2
    assert "Traceback" not in errors
    assert (await l02(node, "exec", agent_id, "{}", closed="0"))[0] == 0, "it is not needed"


async def test_what_an_encoding_lacks_is_an_escape(node: Node, client: Client, spawn: Spawn) -> None:
    agent_id = await spawn()
    await client.signal(agent_id, TEXT, {"text": TEXT})
    for environment in (ASCII, {"PYTHONIOENCODING": "latin-1"}):
        code, printed, errors = await l02(node, "events", agent_id, "--json", environment=environment)
        assert (code, errors) == (0, "")
        encoding = environment.get("PYTHONIOENCODING", "ascii")
        (signal,) = (
            event["data"]
            for event in map(json.loads, (printed or b"").decode(encoding).splitlines())
            if TEXT in str(event)
        )
        assert signal == {"name": TEXT, "payload": {"text": TEXT}}
        code, printed, errors = await l02(node, "events", agent_id, environment=environment)
        assert (code, errors) == (0, "")
        assert r"\u6771\u4eac \ud83e\udd9c" in (printed or b"").decode(encoding)
    code, _, errors = await l02(node, "show", f"{agent_id}東", environment={"PYTHONIOENCODING": "ascii"})
    assert (code, r"\u6771" in errors, len(errors.splitlines())) == (1, True, 1)


async def test_a_server_for_mcp_whose_client_is_not_there(node: Node, full: int) -> None:
    request = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    line = json.dumps(request).encode() + b"\n"
    for closed, stdout, given in (("0,1", PIPE, None), ("-", full, line), ("-", PIPE, b"")):
        code, _, errors = await l02(node, "mcp", "context", closed=closed, stdout=stdout, given=given)
        assert (closed, given, "Traceback" in errors, len(errors.splitlines()) <= 1) == (closed, given, False, True)
        assert code == (0 if given == b"" else 1)
