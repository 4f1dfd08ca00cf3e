"""Our side of the benchmarks runs, at tiny sizes: what nobody runs for a week goes stale. The figures mean nothing."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.contest import ours
from benchmarks.step_rows import node_contender
from l02.bus.embedded import EmbeddedNats

APPENDS = {"payload": 500, "runs": 5, "seconds": 0.2}
CHECKPOINT = {"bytes": 65_536, "content": "text", "compression": "gzip", "runs": 3}


@pytest.mark.parametrize(
    ("script", "options", "figures"),
    [
        ("append", {**APPENDS, "writers": 1, "decided": False}, {"p50_ms"}),
        ("append", {**APPENDS, "writers": 20, "decided": False}, {"per_second"}),
        ("append", {**APPENDS, "writers": 20, "decided": True}, {"per_second"}),
        ("load", {"events": 2_000, "agents": 500, "long_events": 600}, {"short_ms", "long_ms", "long_without_ms"}),
        ("checkpoint", CHECKPOINT, {"put_ms", "get_ms"}),
        ("langgraph_checkpoint", CHECKPOINT, {"put_ms", "get_ms"}),
    ],
)
async def test_it_gives_its_figures(
    fresh_nats: EmbeddedNats, database: str, script: str, options: dict[str, Any], figures: set[str]
) -> None:
    measured = await ours(script).measure({"nats": fresh_nats.url, "postgres": database, **options})
    assert measured.keys() == figures and all(value > 0 for value in measured.values())


async def test_the_table_of_agents_is_rebuilt(fresh_nats: EmbeddedNats, database: str) -> None:
    on = {"nats": fresh_nats.url, "postgres": database}
    filled = await ours("project", fill=True, events=1_000, agents=500).measure(on)
    assert filled["events"] == 1_000
    assert (await ours("project", fill=False).measure(on))["per_second"] > 0


async def test_commands_and_steps_are_taken_of_a_running_node() -> None:
    options = {"in_flight": 2, "seconds": 0.2}
    with node_contender() as node:
        for contender, steps in (
            (node(act="signal"), 1),
            (node(act="execute", calls=0), 1),
            (node(act="execute", calls=10), 10),
        ):
            measured = await contender.measure(options | {"steps": steps})
            assert measured.keys() == {"per_second", "step_ms"} and all(value > 0 for value in measured.values())
