"""A graph that knows nothing of l02 runs as an agent, and keeps its checkpoints in the agent's state."""

from __future__ import annotations

import asyncio
import operator
import uuid
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from l02.agent.loader import load
from l02.agent.testing import run
from l02.bus.embedded import EmbeddedNats
from l02.client.client import Client
from l02.node.running import running_node
from l02.node.settings import Settings

pytest.importorskip("langgraph", reason="needs the extra `langgraph`")

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.conformance.initializer import RegisteredCheckpointer
from langgraph.checkpoint.conformance.validate import validate
from langgraph.graph import END, START, StateGraph

from l02.agent.langgraph import StateSaver

EXAMPLES = Path(__file__).parents[2] / "examples"
TEXT = {"text": "This is is a text."}


async def test_the_example_asks_and_remembers() -> None:
    agent = load(str(EXAMPLES / "reviewer.py"))
    first = await run(agent, TEXT, signals={"review": True})
    assert first.output == {"verdict": "sent", "long": [], "doubled": ["is"], "reviewed": 1}
    assert first.emitted == ["Shall I send what I have found?\n"]
    kept_back = await run(agent, TEXT, state=first.state)
    assert (kept_back.output["verdict"], kept_back.output["reviewed"]) == ("kept back", 2)
    nothing = await run(agent, {"text": "Fine."}, state=kept_back.state)
    assert nothing.output == {"verdict": "nothing found", "long": [], "doubled": [], "reviewed": 3}
    # The state is that of the last checkpoint, however many there were.
    assert len(nothing.state) == len(first.state)


async def test_the_example_runs_in_the_sandbox(fresh_nats: EmbeddedNats, database: str, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data", nats_url=fresh_nats.url, postgres_url=database)
    async with (
        running_node(settings) as node,
        Client.connect(nats_url=node.runtime["nats_url"], actor="tests") as client,
    ):
        agent_id = (await client.spawn(str(EXAMPLES / "reviewer.yaml"), id=f"r{uuid.uuid4().hex[:8]}")).agent_id
        execution = asyncio.create_task(client.execute(agent_id, TEXT))
        await client.signal(agent_id, "review", True)
        assert (await execution).output["verdict"] == "sent"
        again = (await client.execute(agent_id, {"text": "Fine."})).output
        assert (again["verdict"], again["reviewed"]) == ("nothing found", 2)
        await client.terminate(agent_id)


@pytest.mark.conformance
async def test_the_saver_conforms_in_what_it_keeps() -> None:
    async def opened() -> AsyncGenerator[BaseCheckpointSaver[Any], None]:
        yield StateSaver({})

    report = await validate(RegisteredCheckpointer("StateSaver", opened), capabilities={"put", "put_writes"})
    assert report.results["put_writes"].passed, report.results["put_writes"].failures
    # All but those that ask for a checkpoint before the latest.
    missed = {failure.partition(":")[0] for failure in report.results["put"].failures or ()}
    assert missed == {
        "test_put_multiple_checkpoints_same_thread",
        "test_put_parent_config",
        "test_put_incremental_channel_update",
    }


class State(TypedDict):
    words: Annotated[list[str], operator.add]


async def word(state: State) -> State:
    return {"words": ["word"]}


async def test_only_the_latest_of_each_thread_is_there() -> None:
    kept: dict[str, Any] = {}
    saver = StateSaver(kept)
    graph = StateGraph(State).add_node("word", word).add_edge(START, "word").add_edge("word", END).compile(saver)
    configs: list[Any] = [{"configurable": {"thread_id": name}} for name in ("1", "a/b", "1")]
    for config in configs:
        await graph.ainvoke({"words": []}, config)
    assert [latest.config["configurable"]["thread_id"] for latest in saver.list(None)] == ["1", "a/b"]
    (latest,) = saver.list(configs[0])
    assert latest.checkpoint["channel_values"]["words"] == ["word", "word"]
    assert latest.parent_config is None and [*saver.list(None, before=latest.config, limit=1)] != [latest]
    saver.delete_thread("1")
    saver.delete_thread("a/b")
    assert kept == {}


OWN_KEYS = [
    "langgraph",
    "langgraph notes",
    "langgraph null",
    "langgraph {}",
    "langgraph 7",
    'langgraph ["1"]',
    'langgraph ["1", "notes"]',
    'langgraph ["1", "", "notes"]',
    'langgraph ["1", "", "checkpoint", "notes"]',
    'langgraph ["1","","checkpoint"]',
    'langgraph ["1", "", "checkpoint"] ',
    'langgraph ["1", "", 7]',
    'langgraph ["1", "", "write", "task", "notes"]',
    'langgraph ["1", "", "write", "notes"]',
    'langgraph ["1", "", "write", not even JSON',
    'langgraph ["1", "", "value", ["words"]]',
    "langgraph " + "[" * 100_000,
    "langgraph " + "1" * 5000,
]
own_keys = st.sampled_from(OWN_KEYS) | st.text() | st.text().map("langgraph {}".format)
own_keys |= st.text().map('langgraph ["1", "", "{}'.format)


@settings(max_examples=50)
@given(st.dictionaries(own_keys, st.none() | st.integers() | st.lists(st.text()), max_size=len(OWN_KEYS)))
@example(dict.fromkeys(OWN_KEYS))
def test_an_agents_own_keys_are_its_own_whatever_they_are(own: dict[str, Any]) -> None:
    kept = {**own}
    saver = StateSaver(kept)
    graph = StateGraph(State).add_node("word", word).add_edge(START, "word").add_edge("word", END).compile(saver)
    config: Any = {"configurable": {"thread_id": "1"}}
    for _ in range(2):
        asyncio.run(graph.ainvoke({"words": []}, config))
    (latest,) = saver.list(None)
    assert latest.checkpoint["channel_values"]["words"] == ["word", "word"]
    assert latest == saver.get_tuple(config)
    assert own.items() <= kept.items()
    saver.delete_thread("1")
    assert kept == own


async def test_a_graph_that_needs_its_past_is_refused() -> None:
    saver = StateSaver({})
    with pytest.raises(ValueError, match="DeltaChannel"):
        saver.put(
            {"configurable": {"thread_id": "1", "checkpoint_ns": ""}},
            {"id": "1"},  # type: ignore[typeddict-item]
            {"counters_since_delta_snapshot": {"a": (1, 1)}},
            {},
        )
