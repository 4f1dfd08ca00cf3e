"""Whatever reply subject a request names, the node writes its answer nowhere but into an inbox."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.msg import Msg

from l02.bus.commands.retries import answer_retries
from l02.bus.commands.service import run_service
from l02.bus.connection.bus import Bus
from l02.bus.connection.listening import listen
from l02.bus.log.repository import Repository
from l02.bus.wire.headers import header_block, parse_header_lines
from l02.domain.printable import in_header
from tests.bus.toy import TOY, State, outcome, processing, until

STRANGE = [
    "l02.evt.agent.h1.spawned",
    "l02.out.c1",
    "l02.cmd.agent.h1.terminate",
    "l02.timer.agent.h1.restart",
    "$KV.l02_views.agent.h1",
    "$O.l02_objects.M.x",
    "$JS.API.STREAM.DELETE.L02_COMMANDS",
    "$JS.ACK.L02_EVENTS.x.1.1.1.1.1",
    "$SYS.REQ.SERVER.PING",
    "_INBOXES.x",
    "x",
]
REQUESTS = [
    ("l02.api.toy.get", b'{"id": "a1"}'),
    ("l02.api.toy.get", b"{"),
    ("l02.api.toy.note", b'{"id": "a1"}'),
    ("$SRV.PING", b""),
    ("$SRV.INFO.l02", b""),
    ("$SRV.STATS.l02", b""),
    ("l02.retry.toy", b"1"),
]


async def get(query: dict[str, Any]) -> Any:
    return {"asked": query}


@pytest.fixture
async def served(bus: Bus, repository: Repository[State]) -> AsyncIterator[None]:
    async def handle(event: Any) -> None:
        raise AssertionError("there is no event")

    async with (
        processing(bus, repository),
        answer_retries(bus, "toy", handle),
        run_service(bus, {TOY.name: repository}, {"toy.get": get}, version="1.2.3", node_id="n1"),
    ):
        yield


@asynccontextmanager
async def heard(bus: Bus) -> AsyncIterator[list[Msg]]:
    """All that anybody publishes, but to inboxes and to JetStream as a matter of course."""
    messages: list[Msg] = []
    subscription = await listen(bus.client, ">", messages.append)
    await bus.client.flush()
    yield messages
    await subscription.unsubscribe()


@pytest.mark.usefixtures("served")
async def test_a_reply_subject_of_a_strangers_choice_is_not_published_on(bus: Bus) -> None:
    async with heard(bus) as messages:
        for subject, body in REQUESTS:
            for reply in STRANGE:
                await bus.client.publish(subject, body, reply=reply)
        for subject, body in REQUESTS:  # each endpoint answers in order, so what was before is done with
            await bus.client.request(subject, body, timeout=10)
        await bus.client.flush()
    found = [message.subject for message in messages if message.subject in STRANGE]
    assert found == []


@pytest.mark.usefixtures("served")
async def test_an_inbox_is_answered(bus: Bus) -> None:
    """Whichever form it has; what begins with _R_ only the server itself writes, for another account."""
    prefix = "_INBOX.mine.and.mine"
    answers: asyncio.Queue[Msg] = asyncio.Queue()
    subscription = await listen(bus.client, f"{prefix}.>", answers.put_nowait)
    for number, (subject, body) in enumerate(REQUESTS):
        await bus.client.publish(subject, body, reply=f"{prefix}.{number}")
    got = {(await answers.get()).subject for _ in REQUESTS}
    assert got == {f"{prefix}.{number}" for number in range(len(REQUESTS))}
    await subscription.unsubscribe()


@pytest.mark.usefixtures("served")
async def test_a_command_without_a_reply_subject_is_carried_out_and_leaves_one_line(bus: Bus) -> None:
    with structlog.testing.capture_logs() as lines:
        await bus.client.publish("l02.api.toy.note", b'{"id": "a1", "name": "add", "command_id": "c1"}')
        assert (await outcome(bus, "c1")).ok
        await bus.client.publish("l02.api.toy.get", b"{}")
        await until(lambda: len(lines) == 2)
    assert {line["event"] for line in lines} == {"a request is not answered: its reply subject is no inbox"}
    assert all("exception" not in line and "exc_info" not in line for line in lines)


@pytest.mark.usefixtures("served")
async def test_failures_stand_in_the_headers_of_micro_services(bus: Bus) -> None:
    for subject, body in (
        ("l02.api.toy.get", b"{"),
        ("l02.api.toy.note", b'{"id": "a1", "nam\\ne\\u0000": "x"}'),
        ("l02.api.toy.note", b'{"id": "a\\r\\nX-Mine: 1", "name": "add"}'),
    ):
        reply = await bus.client.request(subject, body, timeout=10)
        error = msgspec.json.decode(reply.data)["error"]
        assert reply.headers and reply.headers["Nats-Service-Error-Code"] == error["code"] == "E2110"
        assert reply.headers["Nats-Service-Error"] == in_header(f"COMMAND_INVALID: {error['message']}")
        assert "X-Mine" not in reply.headers
    good = await bus.client.request("l02.api.toy.get", b"{}", timeout=10)
    assert "Nats-Service-Error" not in (good.headers or {})


@given(text=st.text(max_size=2000))
def test_any_text_is_one_line_of_a_header(text: str) -> None:
    line = in_header(text)
    assert len(line) <= 512 and line == line.strip()
    block = header_block({"A": line})
    assert block is not None and parse_header_lines(block) == {"A": line}
