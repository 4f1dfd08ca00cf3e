"""Bad input of any shape gets a code and a message, and stops nothing else."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from l02.client.client import Client
from l02.domain.errors import Failure
from l02.node.queries import QUERY_FIELDS
from l02.node.running import Node
from tests.runtime.conftest import AGENTS, Raw, history, worker

Spawn = Callable[..., Awaitable[str]]
SPEC = msgspec.json.encode({"name": "x", "command": ["true"]})

BODIES = {
    "empty body": (b"", "E2110"),
    "not JSON": (b"hello", "E2110"),
    "invalid UTF-8": (b'{"input": "\xff\xfe"}', "E2110"),
    "not an object": (b"[1, 2]", "E2110"),
    "unknown field": (b'{"input": 1, "inptu": 2}', "E2110"),
    "field of the runtime's own": (b'{"input": 1, "origin": {"actor": "root"}}', "E2110"),
    "missing field": (b"{}", "E2110"),
    "wrong type": (b'{"input": 1, "wait": 7}', "E2110"),
    "deep nesting": (b'{"input": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "E2110"),
    "2 MiB": (b'{"input": "' + b"x" * 2 * 1024 * 1024 + b'"}', "E2115"),
}


@pytest_asyncio.fixture(autouse=True)
async def others_work_on(client: Client, spawn: Spawn) -> AsyncIterator[None]:
    """Whatever a test does, another agent works before and after it."""
    agent_id = await spawn()
    yield
    assert (await client.execute(agent_id, "still here")).output == "still here"


@pytest.mark.parametrize(("body", "code"), BODIES.values(), ids=BODIES.keys())
async def test_bodies(spawn: Spawn, raw: Raw, client: Client, body: bytes, code: str) -> None:
    agent_id = await spawn()
    command_id = uuid.uuid4().hex
    outcome = await raw.publish(f"l02.cmd.agent.{agent_id}.execute", body, command_id)
    assert not outcome.ok
    assert outcome.error
    assert outcome.error.code == code
    assert outcome.error.message
    kept = [letter async for letter in client.dead_letters() if letter.headers.get("Nats-Msg-Id") == command_id]
    assert [(letter.code, letter.body) for letter in kept] == [(code, body)]


async def test_the_path_of_what_is_wrong(raw: Raw) -> None:
    body = {"spec": worker(resource_limits={"cpu": "a lot"})}
    outcome = await raw.publish(f"l02.cmd.agent.{uuid.uuid4().hex}.spawn", msgspec.json.encode(body))
    assert outcome.error
    assert (outcome.error.code, outcome.error.path) == ("E2110", "$.spec.resource_limits.cpu")


async def test_a_specification_that_is_too_large(raw: Raw) -> None:
    body = {"spec": worker(environment={"TEXT": "x" * 300_000})}
    outcome = await raw.publish(f"l02.cmd.agent.{uuid.uuid4().hex}.spawn", msgspec.json.encode(body))
    assert outcome.error
    assert (outcome.error.code, outcome.error.path) == ("E2115", "$.spec")


@pytest.mark.parametrize("subject", ["l02.cmd.agent.a1.dance", "l02.cmd.ghost.a1.spawn", "l02.cmd.agent.a.b.spawn"])
async def test_subjects(raw: Raw, subject: str) -> None:
    outcome = await raw.publish(subject, b"{}")
    assert outcome.error
    assert outcome.error.code == "E2110"


@pytest.mark.parametrize("agent_id", ["with space", "with.dot", "x" * 10_240, "", "*", "ä", "a/b"])
async def test_ids(raw: Raw, client: Client, agent_id: str) -> None:
    answer = await raw.request("agent.execute", {"id": agent_id, "input": 1})
    assert answer["error"]["code"] == "E2110"
    assert answer["error"]["path"] == "$.id"
    with pytest.raises(Failure, match="E2110"):
        await client.execute(agent_id, 1)


async def test_a_long_id_in_a_subject(raw: Raw) -> None:
    outcome = await raw.publish(f"l02.cmd.agent.{'x' * 2000}.terminate", b"{}")
    assert outcome.error
    assert outcome.error.code == "E2110"


async def test_an_id_used_for_another_command(spawn: Spawn, raw: Raw, client: Client) -> None:
    agent_id = await spawn()
    command_id = uuid.uuid4().hex
    await client.signal(agent_id, "go", 1, command_id=command_id)
    answer = await raw.request("agent.signal", {"id": agent_id, "command_id": command_id, "name": "go", "payload": 2})
    assert answer["error"]["code"] == "E2110"
    assert "another body" in answer["error"]["message"]


async def test_an_id_used_before_at_another_agent_or_for_another_verb(spawn: Spawn, raw: Raw, client: Client) -> None:
    """Whichever way it comes: never as the first one's success, and without an effect."""
    first, second = await spawn(), await spawn()
    command_id = uuid.uuid4().hex
    done = await client.execute(first, "hello", command_id=command_id)
    with pytest.raises(Failure, match="E2110.*used before"):
        await client.execute(second, "hello", command_id=command_id)
    answer = await raw.request("agent.suspend", {"id": second, "command_id": command_id})
    assert not answer["ok"] and answer["error"]["code"] == "E2110"
    outside_the_window = {"Nats-Msg-Id": "", "L02-Command-Id": command_id}
    said = await raw.publish(f"l02.cmd.agent.{first}.terminate", b"{}", command_id, outside_the_window)
    assert said.error and said.error.code == "E2110"
    assert await client.execute(first, "hello", command_id=command_id) == done
    for agent_id, types in ((first, {"execution.started", "execution.completed"}), (second, set())):
        found = {event.type.removeprefix("agent.") for event in await history(client, agent_id)}
        assert {name for name in found if name.startswith(("execution", "suspend", "terminat"))} == types


async def test_a_specification_that_names_a_missing_file(client: Client) -> None:
    for more in ({"entrypoint": str(AGENTS / "missing.py")}, {"files": {"read": ["/no/such/file"]}}):
        with pytest.raises(Failure, match="E2020.*does not exist"):
            await client.spawn(worker(**more))


async def test_a_program_that_is_not_there(client: Client) -> None:
    with pytest.raises(Failure, match="E2020.*no-such-program"):
        await client.spawn({"name": "x", "command": ["no-such-program"]})


async def test_code_that_cannot_be_loaded(client: Client, node: Node, tmp_path_factory: pytest.TempPathFactory) -> None:
    broken = tmp_path_factory.mktemp("code") / "broken.py"
    broken.write_text("def (:\n")
    with pytest.raises(Failure, match=r"E2020.*broken\.py"):
        await client.spawn({"name": "x", "entrypoint": str(broken)})


@pytest.mark.parametrize("trust_level", ["untrusted", "confidential"])
async def test_a_sandbox_that_this_node_cannot_give(client: Client, trust_level: str) -> None:
    with pytest.raises(Failure, match="E2040"):
        await client.spawn(worker(trust_level=trust_level))


async def test_requests_that_are_no_json(raw: Raw) -> None:
    for verb in ("agent.execute", "agent.get", "agent.list", "events.read"):
        answer = await raw.request(verb, b"\xff{")
        assert (answer["ok"], answer["error"]["code"]) == (False, "E2110")


HOSTILE: tuple[Any, ...] = (
    "\0",
    "a\0b",
    2**63,
    2**64,
    -(2**70),
    "x" * 100_000,
    "1677-01-01T00:00:00Z",
    "2263-01-01T00:00:00Z",
    "9999-12-31T23:59:59-23:59",
    "2026-01-01T00:00:00",
    ">",
    "*",
    "a b",
    "\u00e9",
    [],
    {},
    1.5,
)
HOSTILE_FIELDS: list[tuple[str, str, Any]] = [
    (query, name, value)
    for query, fields in QUERY_FIELDS.items()
    for name in fields.__struct_fields__
    for value in HOSTILE
]


async def test_hostile_values_in_queries(raw: Raw) -> None:
    """Whatever a field holds, what is said of it is of the sender's: no failure of the node."""
    for query, name, value in HOSTILE_FIELDS:
        async with asyncio.timeout(10):
            answer = await raw.request(query, {"id": "nobody", name: value} if query == "agent.get" else {name: value})
        assert answer["ok"] or answer["error"]["code"] in ("E2110", "E2111"), (query, name, value, answer)


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("events.read", {"since": "2263-01-01T00:00:00Z"}),
        ("events.read", {"since": "2026-01-01T00:00:00"}),
        ("events.read", {"after": 2**64}),
        ("events.read", {"aggregate": ">"}),
        ("events.read", {"type": "agent.vanished"}),
        ("agent.get", {"id": "\0"}),
        ("agent.get", {"id": "a", "at_least": 2**63}),
        ("agent.list", {"fleet": "\0"}),
        ("agent.list", {"after": "\0"}),
        ("agent.checkpoints", {"id": "a\0"}),
    ],
)
async def test_what_no_server_can_be_asked_for(raw: Raw, query: str, fields: dict[str, object]) -> None:
    answer = await raw.request(query, fields)
    assert (answer["ok"], answer["error"]["code"]) == (False, "E2110")
    assert answer["error"]["path"].startswith("$.")


async def test_queries_with_unknown_fields(raw: Raw) -> None:
    answer = await raw.request("agent.list", {"colour": "red"})
    assert answer["error"]["code"] == "E2110"


@pytest.mark.parametrize("value", [float("nan"), float("-inf"), {1, object()}], ids=["nan", "infinity", "a set"])
async def test_our_client_sends_nothing_that_json_would_change(client: Client, value: object) -> None:
    with pytest.raises(Failure, match="E2110.*what is sent is not a JSON value"):
        await client.execute("nobody", {"deep": [None, value]})
