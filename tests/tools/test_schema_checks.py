"""Arguments against schemas that somebody else has written: right or wrong, and never long on the event loop."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import psutil
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from l02.bus.wire.agent.protocol import MAX_SCHEMA_BYTES
from l02.domain.errors import ErrorCode, Failure
from l02.domain.specification import AgentSpecification
from l02.handlers.executor.tools import schemas
from l02.handlers.executor.tools.calling import ToolBox
from l02.handlers.executor.tools.checks import Allowance, SchemaChecks
from l02.handlers.executor.tools.schemas import Question, is_plain, misfit
from l02.handlers.tool_servers import ToolServers
from tests.runtime.answering import without_core
from tests.tools.conftest import ROGUE, landlock_only, running

HOSTILE = {"properties": {"text": {"type": "string", "pattern": "^(a+)+$"}}}
ENDLESS = {"text": "a" * 60 + "!"}
# Each definition is looked at twice by the one before: 2 to the power of 40.
BOMB = {
    "$ref": "#/$defs/n0",
    "$defs": {f"n{n}": {"allOf": [{"$ref": f"#/$defs/n{n + 1}"}] * 2} for n in range(40)} | {"n40": {}},
}
SCHEMAS = "l02.handlers.executor.tools.schemas"
PLAIN = {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}, "required": ["n"]}


@pytest_asyncio.fixture
async def checks() -> AsyncIterator[SchemaChecks]:
    """Its processes are those that were not there before: a node that other tests share has one too."""
    others = set(running(SCHEMAS))
    made = SchemaChecks()
    yield made
    await made.close()
    assert not set(running(SCHEMAS)) - others


async def refusal(checks: SchemaChecks, schema: Any, arguments: dict[str, Any]) -> Failure:
    with pytest.raises(Failure) as caught:
        await checks.require_fit("tool", schema, arguments)
    assert caught.value.code is ErrorCode.TOOL_INVOCATION_FAILED
    return caught.value


async def longest_pause(work: Any) -> float:
    """The longest time for which the event loop did nothing else while the work was done, though it had a core."""
    task = asyncio.ensure_future(work)
    longest, before = 0.0, time.monotonic() - without_core()
    while not task.done():
        await asyncio.sleep(0.005)
        now = time.monotonic() - without_core()
        longest, before = max(longest, now - before), now
    await task
    return longest


@pytest.mark.parametrize(("schema", "arguments"), [(HOSTILE, ENDLESS), (BOMB, {})], ids=["pattern", "references"])
async def test_a_check_that_would_take_for_ever(
    checks: SchemaChecks, schema: dict[str, Any], arguments: dict[str, Any]
) -> None:
    async def others() -> None:
        for _ in range(20):
            await checks.require_fit("good", HOSTILE, {"text": "aaa"})

    async def both() -> None:
        failure, _ = await asyncio.gather(refusal(checks, schema, arguments), others())
        assert "takes more than 1 s" in failure.message

    assert await longest_pause(both()) < 0.5


async def test_what_fits_and_what_does_not(checks: SchemaChecks) -> None:
    for schema in (PLAIN, {"$ref": "#/$defs/plain", "$defs": {"plain": PLAIN}}):
        await checks.require_fit("tool", schema, {"n": 1})
        failure = await refusal(checks, schema, {"n": 0})
        assert (failure.path, "0 is less than the minimum of 1" in failure.message) == ("$.n", True)
        assert "'n' is a required property" in (await refusal(checks, schema, {})).message
    failure = await refusal(checks, HOSTILE, {"text": "b"})
    assert (failure.path, "'b' does not match '^(a+)+$'" in failure.message) == ("$.text", True)


@pytest.mark.parametrize(
    "schema",
    [{"properties": 5}, {"type": 7}, {"type": "object", "required": 1}, {"propertyNames": {"pattern": "("}}, 1, None],
    ids=str,
)
async def test_broken_schemas(checks: SchemaChecks, schema: Any) -> None:
    assert "schema of tool 'tool' is broken" in (await refusal(checks, schema, {"a": 1})).message


async def test_a_schema_cannot_make_the_node_fetch_anything(checks: SchemaChecks) -> None:
    asked: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readline())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        failure = await refusal(checks, {"$ref": f"http://127.0.0.1:{port}/schema"}, {})
    assert "broken" in failure.message
    assert asked == []


async def test_a_check_ends_by_itself_when_the_node_is_gone() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", schemas.__name__), stdin=PIPE, stdout=PIPE, stderr=PIPE
    )
    assert process.stdin
    process.stdin.write(msgspec.json.encode(Question(HOSTILE, ENDLESS)) + b"\n")
    process.stdin.close()
    async with asyncio.timeout(60):
        assert await process.wait() == -signal.SIGPROF


async def test_a_process_is_kept_for_the_next_check(checks: SchemaChecks) -> None:
    others = set(running(SCHEMAS))
    await checks.require_fit("tool", HOSTILE, {"text": "a"})
    [kept] = set(running(SCHEMAS)) - others
    await checks.require_fit("tool", HOSTILE, {"text": "aa"})
    assert set(running(SCHEMAS)) - others == {kept}
    kept.kill()
    psutil.wait_procs([kept])
    await checks.require_fit("tool", HOSTILE, {"text": "a"})


@landlock_only
async def test_the_schema_of_a_hostile_server(checks: SchemaChecks, shared_servers: ToolServers) -> None:
    specification = AgentSpecification(name="a", command=("a",), tools={"rogue": ROGUE})
    tools = ToolBox(specification, [], shared_servers, checks)
    strict = await tools.find("strict")

    async def check() -> None:
        with pytest.raises(Failure, match="the schema of tool 'strict' takes more than"):
            await tools.check(strict, ENDLESS)

    assert await longest_pause(check()) < 0.5
    await tools.check(strict, {"text": "aa"})


@pytest.mark.parametrize(
    ("schema", "fits", "unfit"),
    [
        ({"properties": {"p": {"multipleOf": 0.01}}}, {"p": 19.99}, {"p": 19.995}),
        (
            {
                "$schema": "http://json-schema.org/draft-07/schema#",
                "properties": {"t": {"items": [{"type": "string"}, {"type": "integer"}]}},
            },
            {"t": ["a", 1]},
            {"t": ["a", "b"]},
        ),
        ({"properties": {"n": {"multipleOf": 1e-300}}}, {"n": 1e300}, {"n": 1.5e-300}),
    ],
    ids=["decimals", "tuple", "far apart"],
)
async def test_schemas_of_the_real_world(
    checks: SchemaChecks, schema: dict[str, Any], fits: dict[str, Any], unfit: dict[str, Any]
) -> None:
    await checks.require_fit("tool", schema, fits)
    await refusal(checks, schema, unfit)


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"t": {"items": [{"type": "string"}]}}},
        {"properties": {"t": {"items": {"pattern": "^\\p{Lu}"}}}},
        {"properties": {"t": {"items": {"pattern": "(?<year>[0-9]+)"}}}},
        {"enum": ["x" * MAX_SCHEMA_BYTES]},
    ],
    ids=["tuple", "property", "group", "large"],
)
async def test_what_cannot_be_checked_here_is_for_the_server(checks: SchemaChecks, schema: dict[str, Any]) -> None:
    await checks.require_fit("tool", schema, {"t": ["A"]}, is_servers=True)
    assert "schema of tool 'tool' is broken" in (await refusal(checks, schema, {"t": ["A"]})).message


async def test_what_costs_the_product_of_two_sizes_is_not_done_on_the_loop(checks: SchemaChecks) -> None:
    schema = {"properties": {"n": {"items": {"enum": list(range(4000))}}}}
    before = time.thread_time()
    assert "takes more than 1 s" in (await refusal(checks, schema, {"n": [-1] * 40_000})).message
    assert time.thread_time() - before < 0.1


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "type", "items"]), inner),
)


@given(
    st.dictionaries(
        st.sampled_from(["type", "properties", "items", "required", "allOf", "not", "enum", "minimum", "if", "$ref"]),
        values,
        max_size=4,
    ),
    values,
)
def test_no_schema_makes_a_check_raise(schema: dict[str, Any], arguments: Any) -> None:
    is_plain(schema)
    misfit(Question(schema, arguments))


async def test_one_agents_checks_do_not_keep_anothers_waiting(checks: SchemaChecks) -> None:
    """However many wait, and though each takes all of its second: theirs come one at a time."""
    many = [asyncio.create_task(refusal_of("attacker", checks)) for _ in range(30)]
    await asyncio.sleep(0)
    for _ in range(3):
        await checks.require_fit("good", HOSTILE, {"text": "aaa"}, agent_id="victim")
    assert sum(task.done() for task in many) < 10
    for task in many:
        task.cancel()
    await asyncio.gather(*many, return_exceptions=True)


async def refusal_of(agent_id: str, checks: SchemaChecks) -> None:
    with pytest.raises(Failure):
        await checks.require_fit("tool", HOSTILE, ENDLESS, agent_id=agent_id)


async def test_what_an_agents_checks_take_in_all_is_bounded() -> None:
    """A burst at once, and a share of a core from then on; another agent's is its own."""
    allowance = Allowance(burst=10, share=0.1)
    for spent in range(10):
        assert allowance.pause("a") == 0, spent
        allowance.charge("a", 1)
    allowance.charge("a", 2)
    assert 19 < allowance.pause("a") <= 20
    assert allowance.pause("b") == 0


async def test_checks_wait_until_their_agent_may_use_more(
    checks: SchemaChecks, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "_allowance", Allowance(burst=0.01, share=1e-6))
    await refusal_of("a", checks)
    waiting = asyncio.create_task(refusal_of("a", checks))
    await checks.require_fit("good", HOSTILE, {"text": "aaa"}, agent_id="b")
    await checks.require_fit("plain", PLAIN, {"n": 1}, agent_id="a")
    assert not waiting.done()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
