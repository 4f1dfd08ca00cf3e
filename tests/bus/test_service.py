"""The micro service: discovery, commands and queries by request, and an answer to everything that is asked."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from nats.errors import NoRespondersError

from l02.bus.commands.service import run_service
from l02.bus.connection.bus import Bus
from l02.bus.log.repository import Repository
from l02.domain.errors import ErrorCode, Failure
from tests.bus.toy import TOY, State, outcomes, processing

HELD = asyncio.Event()


async def get(query: dict[str, Any]) -> Any:
    match query.get("id"):
        case "held":
            await HELD.wait()
        case "missing":
            raise Failure(ErrorCode.AGGREGATE_NOT_FOUND, "there is none", "$.id")
        case "broken":
            raise RuntimeError("the query has a fault")
        case _:
            return {"asked": query}


@pytest_asyncio.fixture
async def served(bus: Bus, repository: Repository[State]) -> AsyncIterator[Repository[State]]:
    async with (
        processing(bus, repository),
        run_service(bus, {TOY.name: repository}, {"toy.get": get}, version="1.2.3", node_id="n1"),
    ):
        yield repository


async def ask(bus: Bus, subject: str, body: Any = b"", headers: dict[str, str] | None = None) -> dict[str, Any]:
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    reply = await bus.client.request(subject, raw, timeout=10, headers=headers)
    return msgspec.json.decode(reply.data, type=dict[str, Any])


@pytest.mark.usefixtures("served")
async def test_it_is_found_and_describes_itself(bus: Bus) -> None:
    ping = await ask(bus, "$SRV.PING.l02")
    assert (ping["name"], ping["version"]) == ("l02", "1.2.3")
    info = await ask(bus, "$SRV.INFO.l02")
    subjects = {endpoint["subject"] for endpoint in info["endpoints"]}
    assert subjects == {f"l02.api.toy.{verb}" for verb in ("note", "clear", "remind", "get")}
    await ask(bus, "l02.api.toy.get", {"id": "a1"})
    stats = await ask(bus, "$SRV.STATS.l02")
    assert {one["name"]: one["num_requests"] for one in stats["endpoints"]}["toy-get"] == 1


@pytest.mark.usefixtures("served")
async def test_a_command_by_request_is_stored_and_answered_with_its_outcome(bus: Bus) -> None:
    answer = await ask(bus, "l02.api.toy.note", {"id": "a1", "name": "add"}, {"Nats-Msg-Id": "c1", "L02-Actor": "ann"})
    assert answer["ok"] and answer["version"] == 1 and answer["command_id"] == "c1"
    assert len(await outcomes(bus, "c1")) == 1
    answer = await ask(bus, "l02.api.toy.note", {"id": "a1", "name": "add", "command_id": "c2"})
    assert answer["command_id"] == "c2" and answer["version"] == 2


@pytest.mark.usefixtures("served")
async def test_the_same_id_with_another_body_is_refused_and_with_the_same_is_answered_alike(bus: Bus) -> None:
    first = await ask(bus, "l02.api.toy.note", {"id": "a1", "name": "add", "command_id": "c1"})
    await asyncio.sleep(0.2)  # the server's own window
    assert await ask(bus, "l02.api.toy.note", {"id": "a1", "name": "add", "command_id": "c1"}) == first
    other = await ask(bus, "l02.api.toy.note", {"id": "a1", "name": "sub", "command_id": "c1"})
    assert (other["error"]["code"], other["error"]["path"]) == ("E2110", "$.command_id")


async def test_slow_requests_hold_up_no_others(bus: Bus, served: Repository[State]) -> None:
    async with asyncio.TaskGroup() as tasks:
        async with served._exclusive("slow"):
            slow = [tasks.create_task(ask(bus, "l02.api.toy.note", {"id": "slow", "name": "add"})) for _ in range(20)]
            answers = await asyncio.gather(
                *(ask(bus, "l02.api.toy.note", {"id": f"a{n}", "name": "add"}) for n in range(20))
            )
            assert all(answer["ok"] for answer in answers)
            assert not any(task.done() for task in slow)
        assert sorted([(await task)["version"] for task in slow]) == list(range(1, 21))


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize(
    ("body", "code", "path"),
    [
        (b"", "E2110", "$.id"),
        (b"not json", "E2110", None),
        (b"\xff", "E2110", None),
        (b"[" * 100_000, "E2110", "$"),
        (b"[]", "E2110", "$"),
        ({"id": 7, "name": "add"}, "E2110", "$.id"),
        ({"id": "a.b", "name": "add"}, "E2110", "$.id"),
        ({"id": "a1", "command_id": 7, "name": "add"}, "E2110", "$.command_id"),
        ({"id": "a1", "command_id": "a b", "name": "add"}, "E2110", "$.command_id"),
        ({"id": "a1", "name": "add", "colour": 1}, "E2110", "$"),
        ({"id": "a1", "name": 7}, "E2110", "$.name"),
        ({"id": "a1", "name": "unless-opened"}, "E2112", None),
        (b"x" * (2 * 1024 * 1024), "E2115", None),
    ],
    ids=lambda value: repr(value)[:30],
)
async def test_a_bad_request_is_answered_with_a_code(bus: Bus, body: Any, code: str, path: str | None) -> None:
    answer = await ask(bus, "l02.api.toy.note", body)
    assert not answer["ok"] and answer["error"]["code"] == code
    assert answer["error"].get("path") == path and answer["error"]["message"]


@pytest.mark.usefixtures("served")
async def test_a_bad_id_in_the_header_is_refused(bus: Bus) -> None:
    answer = await ask(bus, "l02.api.toy.note", {"id": "a1", "name": "add"}, {"Nats-Msg-Id": "a b"})
    assert answer["error"]["code"] == "E2110"


@pytest.mark.usefixtures("served")
async def test_queries_are_answered_refused_or_said_to_have_failed(bus: Bus) -> None:
    assert (await ask(bus, "l02.api.toy.get"))["result"] == {"asked": {}}
    assert (await ask(bus, "l02.api.toy.get", {"id": "a1"}))["result"] == {"asked": {"id": "a1"}}
    missing = await ask(bus, "l02.api.toy.get", {"id": "missing"})
    assert missing["error"]["code"] == "E2111" and missing["error"]["path"] == "$.id"
    broken = await ask(bus, "l02.api.toy.get", {"id": "broken"})
    assert broken["error"]["code"] == "E2117"
    assert (await ask(bus, "l02.api.toy.get", b"\xff"))["error"]["code"] == "E2110"


@pytest.mark.usefixtures("served")
async def test_many_queries_wait_for_their_turn_and_too_many_are_refused(bus: Bus) -> None:
    HELD.clear()
    asked = [asyncio.create_task(ask(bus, "l02.api.toy.get", {"id": "held"})) for _ in range(400)]
    first, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
    assert {(await one)["error"]["code"] for one in first} == {"E2103"}
    assert (await ask(bus, "l02.api.toy.note", {"id": "a1", "name": "add"}))["ok"]
    HELD.set()
    answers = await asyncio.gather(*asked)
    assert sum(answer["ok"] for answer in answers) == 32 + 250
    assert (await ask(bus, "l02.api.toy.get", {"id": "a1"}))["ok"]


async def test_a_command_whose_handling_crashes_is_answered(
    bus: Bus, served: Repository[State], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def crash(_: str) -> None:
        raise RuntimeError("the repository has a fault")

    monkeypatch.setattr(served, "load", crash)
    answer = await ask(bus, "l02.api.toy.note", {"id": "a1", "name": "add"})
    assert not answer["ok"] and answer["error"]["code"] == "E2117"


async def test_it_ends_with_its_context_and_leaves_nothing_behind(bus: Bus, repository: Repository[State]) -> None:
    before = len(bus.client._subs), len(asyncio.all_tasks())
    async with run_service(bus, {TOY.name: repository}, {"toy.get": get}, version="1.2.3", node_id="n1"):
        # Nobody handles commands here, so this one waits until the service ends.
        waiting = asyncio.create_task(ask(bus, "l02.api.toy.note", {"id": "a1", "name": "add"}))
        await ask(bus, "l02.api.toy.get")
    waiting.cancel()
    await asyncio.wait([waiting])
    with pytest.raises(NoRespondersError):
        await ask(bus, "l02.api.toy.get")
    assert (len(bus.client._subs), len(asyncio.all_tasks())) <= (before[0] + 1, before[1] + 1)
