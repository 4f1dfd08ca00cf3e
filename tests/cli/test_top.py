"""`l02 top`: what agents do and take now, for eyes, for pipes and for programs."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
import sys
from collections.abc import Callable
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from l02.bus.connection.bus import Bus
from l02.bus.embedded import EmbeddedNats
from l02.bus.wire.subjects import VIEWS_BUCKET, usage_subject
from l02.client.client import Client
from l02.domain.agent.resources import LiveUsage
from l02.domain.agent.state import Status
from l02.domain.budget.state import BudgetLimits
from l02.domain.specification import ResourceLimits
from l02.domain.spending.limits import LimitAction, LimitName
from l02.projections.folds.agents import AgentView
from l02.projections.folds.budgets import BudgetView
from l02.projections.folds.fold import encode_view
from l02.projections.folds.limits import LimitView
from tests.cli.conftest import SPECIFICATION
from tests.cli.test_program import program, said

NOW = datetime(2026, 1, 1, tzinfo=UTC)
AGENT = AgentView(
    id="a1",
    name="historian",
    state=Status.RUNNING,
    spec=SPECIFICATION,
    fleet_id=None,
    node_id="n1",
    trust_level="standard",
    resource_limits=ResourceLimits(),
    pid=4711,
    tokens=1200,
    cost_usd=0.25,
    incarnation=2,
    created_at=NOW,
    updated_at=NOW,
    version=3,
    sequence=3,
)
USAGE = LiveUsage(
    id="a1",
    node_id="n1",
    incarnation=2,
    at="2026-01-01T00:00:00+00:00",
    cpu_cores=0.525,
    cpu_seconds=9.5,
    memory_bytes=64 << 20,
    memory_peak_bytes=80 << 20,
    tokens=1200,
    tokens_per_minute=90.0,
)


async def put(bus: Bus, *views: AgentView | LiveUsage) -> None:
    for view in views:
        if isinstance(view, AgentView):
            await bus.jetstream.publish(f"$KV.{VIEWS_BUCKET}.agent.{view.id}", encode_view(view))
        else:
            await bus.jetstream.publish(usage_subject(view.id), msgspec.json.encode(view))


async def take_away(bus: Bus, agent_id: str) -> None:
    await bus.jetstream.publish(usage_subject(agent_id), b"", headers={"KV-Operation": "DEL"})


async def rows(nats: EmbeddedNats, *words: str) -> list[dict[str, Any]]:
    code, printed, errors = await said(nats, "top", "--once", "--json", *words)
    assert (code, errors) == (0, b"")
    return json.loads(printed)  # type: ignore[no-any-return]


async def test_where_there_is_nothing(bus: Bus, fresh_nats: EmbeddedNats) -> None:
    assert await rows(fresh_nats) == []
    code, printed, _ = await said(fresh_nats, "top")
    assert code == 0
    assert printed.split() == [b"ID", b"STATE", b"WORK", b"CPU", b"MEMORY", b"TOKENS/MIN", b"TOKENS", b"SPEND", b"LEFT"]


async def test_what_is_shown_of_whom(bus: Bus, fresh_nats: EmbeddedNats) -> None:
    rests = replace(
        AGENT,
        id="a2",
        state=Status.SUSPENDED,
        pid=None,
        tokens=7,
        cost_usd=0.5,
        open_executions={"x1": NOW},
    )
    moved = replace(AGENT, id="a3", incarnation=3)
    ended = replace(AGENT, id="a4", state=Status.TERMINATED, pid=None)
    left_standing = [replace(USAGE, id=agent.id) for agent in (rests, moved, ended)]
    await put(bus, AGENT, rests, moved, ended, USAGE, *left_standing)
    shown = await rows(fresh_nats, "--sort", "id")
    assert [row["id"] for row in shown] == ["a1", "a2", "a3"]
    assert shown[0] == {
        "id": "a1",
        "name": "historian",
        "state": "running",
        "node_id": "n1",
        "open_executions": 0,
        "cpu_cores": 0.525,
        "memory_bytes": 64 << 20,
        "tokens": 1200,
        "tokens_per_minute": 90.0,
        "cost_usd": 0.25,
        "left": None,
    }
    assert (shown[1]["cpu_cores"], shown[1]["tokens"], shown[1]["cost_usd"]) == (None, 7, 0.5)
    assert shown[1]["open_executions"] == 1
    assert shown[2]["memory_bytes"] is None
    _, printed, _ = await said(fresh_nats, "top", "--sort", "id")
    assert printed.decode().splitlines()[1].split() == [
        "a1",
        "running",
        "0",
        "52%",
        "64Mi",
        "90",
        "1200",
        "$0.2500",
        "-",
    ]


async def test_what_cannot_be_read_is_passed_over(bus: Bus, fresh_nats: EmbeddedNats) -> None:
    await put(bus, AGENT, USAGE)
    await bus.jetstream.publish(usage_subject("a1"), b"no usage")
    await bus.jetstream.publish(f"$KV.{VIEWS_BUCKET}.agent.a5", b"no view")
    code, printed, errors = await said(fresh_nats, "top", "--once", "--json")
    assert code == 0
    assert [(row["id"], row["cpu_cores"]) for row in json.loads(printed)] == [("a1", None)]
    assert errors.count(b"cannot be read") == 2


def limit(amount: int | None, left: int | None, reset_at: datetime | None = None) -> LimitView:
    return LimitView(amount=amount, used=0, reserved=0, left=left, reset_at=reset_at)


async def test_the_closest_limit_is_shown_its_own_or_a_budgets(bus: Bus, fresh_nats: EmbeddedNats) -> None:
    hour, day, cost = LimitName.TOKENS_PER_HOUR, LimitName.TOKENS_PER_DAY, LimitName.COST_PER_DAY
    spec = replace(SPECIFICATION, budget="team")
    own = {hour: limit(100, 40, NOW), day: limit(None, None)}
    await put(
        bus,
        replace(AGENT, id="own", spent=own),
        replace(AGENT, id="team", spec=spec, spent=own),
        replace(AGENT, id="none", spent={hour: limit(0, 0)}),
        replace(AGENT, id="free", spent={hour: limit(None, None)}),
    )
    for name, parent, spent in (("team", "root", {day: limit(1000, 500)}), ("root", "team", {cost: limit(10, 1)})):
        budget = BudgetView(
            id=name,
            limits=BudgetLimits(),
            parent=parent,
            action=LimitAction.SUSPEND,
            warn_at=(),
            created_at=NOW,
            updated_at=NOW,
            version=1,
            sequence=1,
            spent=spent,
        )
        await bus.jetstream.publish(f"$KV.{VIEWS_BUCKET}.budget.{name}", encode_view(budget))
    shown = await rows(fresh_nats, "--sort", "left")
    assert [(row["id"], row["left"] and row["left"]["part"]) for row in shown] == [
        ("none", 0.0),
        ("team", 0.1),
        ("own", 0.4),
        ("free", None),
    ]
    assert shown[2]["left"] == {
        "limit": "tokens_per_hour",
        "budget": None,
        "part": 0.4,
        "left": 40,
        "amount": 100,
        "reset_at": "2026-01-01T00:00:00Z",
    }
    _, printed, _ = await said(fresh_nats, "top", "--sort", "left")
    ends = [line.split()[8:] for line in printed.decode().splitlines()[1:]]
    assert ends == [["0%", "tokens_per_hour"], ["10%", "cost_per_day", "root"], ["40%", "tokens_per_hour"], ["-"]]


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("cpu", ["big", "old", "new"]),
        ("memory", ["new", "big", "old"]),
        ("tokens", ["old", "new", "big"]),
        ("spend", ["old", "big", "new"]),
        ("id", ["big", "new", "old"]),
    ],
)
async def test_sorted(bus: Bus, fresh_nats: EmbeddedNats, sort: str, order: list[str]) -> None:
    for name, cores, memory, rate, cost in (
        ("big", 1.5, 20, 1, 2.0),
        ("new", 0.1, 30, 2, 1.0),
        ("old", 0.2, 10, 3, 3.0),
    ):
        figures = replace(USAGE, id=name, cpu_cores=cores, memory_bytes=memory, tokens_per_minute=rate)
        await put(bus, replace(AGENT, id=name, cost_usd=cost), figures)
    assert [row["id"] for row in await rows(fresh_nats, "--sort", sort)] == order


async def test_it_follows_what_changes(bus: Bus, client: Client) -> None:
    await put(bus, AGENT, USAGE)
    async with asyncio.timeout(20), aclosing(client.watch_live()) as lives:
        live = await anext(lives)
        assert live.usage_of(live.agents["a1"]) == USAGE
        await put(bus, replace(USAGE, cpu_cores=1.0))
        await until(lives, lambda: live.usage_of(AGENT) == replace(USAGE, cpu_cores=1.0))
        await take_away(bus, "a1")
        await until(lives, lambda: live.usage_of(AGENT) is None)
        await put(bus, replace(AGENT, state=Status.FAILED))
        await until(lives, lambda: not live.agents)


async def until(lives: Any, fact: Callable[[], bool]) -> None:
    while not fact():
        await anext(lives)


async def test_a_list_a_line_for_programs_whenever_it_has_changed(bus: Bus, fresh_nats: EmbeddedNats) -> None:
    await put(bus, replace(AGENT, id="first"))
    async with program(fresh_nats, "top", "--json") as process:
        assert process.stdout
        assert [row["id"] for row in json.loads(await process.stdout.readline())] == ["first"]
        await put(bus, replace(AGENT, id="second"))
        assert [row["id"] for row in json.loads(await process.stdout.readline())] == ["first", "second"]
        process.send_signal(signal.SIGINT)
        assert (await process.wait(), await process.stdout.read()) == (130, b"")


async def test_on_a_terminal_it_goes_on_and_ends_with_ctrl_c(bus: Bus, fresh_nats: EmbeddedNats) -> None:
    await put(bus, replace(AGENT, id="first"))
    ours, theirs = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("L02_")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "l02.cli", "top"),
        stdin=theirs,
        stdout=theirs,
        stderr=asyncio.subprocess.PIPE,
        env=environment | {"L02_NATS_URL": fresh_nats.url, "TERM": "xterm", "COLUMNS": "120", "LINES": "30"},
    )
    os.close(theirs)
    shown = b""

    async def seen(text: bytes) -> None:
        nonlocal shown
        while text not in shown:
            shown += await asyncio.to_thread(os.read, ours, 65_536)

    async with asyncio.timeout(30):
        await seen(b"first")
        await put(bus, replace(AGENT, id="second"))
        await seen(b"second")
        process.send_signal(signal.SIGINT)
        _, errors = await process.communicate()
    assert (process.returncode, errors) == (130, b"")
    shown += await asyncio.to_thread(os.read, ours, 65_536)
    os.close(ours)
    assert shown.count(b"\x1b[?1049h") == shown.count(b"\x1b[?1049l") == 1  # the terminal is as it was
