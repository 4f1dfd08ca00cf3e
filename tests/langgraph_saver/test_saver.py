"""The saver conforms to LangGraph's own suite, runs real graphs, and gives nothing damaged."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Annotated, Any, TypedDict

import asyncpg
import pytest
import pytest_asyncio

from l02.domain.errors import ErrorCode, Failure

pytest.importorskip("langgraph", reason="needs the extra `langgraph`")

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.conformance.initializer import RegisteredCheckpointer
from langgraph.checkpoint.conformance.validate import validate
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

from l02.langgraph import L02Saver


@pytest_asyncio.fixture
async def saver(database: str) -> AsyncIterator[L02Saver]:
    async with L02Saver.from_url(database) as opened:
        yield opened


@pytest.mark.conformance
async def test_it_conforms(database: str) -> None:
    async def opened() -> AsyncGenerator[BaseCheckpointSaver[Any], None]:
        async with L02Saver.from_url(database) as saver:
            yield saver

    report = await validate(RegisteredCheckpointer("L02Saver", opened))
    results = report.results
    assert all(result.detected and result.passed for result in results.values()), [
        failure for result in results.values() for failure in result.failures or ()
    ]
    assert len(results) == 8 and sum(result.tests_passed for result in results.values()) >= 80


class State(TypedDict):
    words: Annotated[list[str], operator.add]


async def first(state: State) -> State:
    return {"words": ["first"]}


async def ask(state: State) -> State:
    return {"words": [interrupt("may I?")]}


def graph(saver: L02Saver) -> Any:
    builder = StateGraph(State).add_node("first", first).add_node("ask", ask)
    return builder.add_edge(START, "first").add_edge("first", "ask").add_edge("ask", END).compile(checkpointer=saver)


def thread(name: str) -> Any:
    return {"configurable": {"thread_id": name}}


async def test_a_graph_is_interrupted_and_goes_on_elsewhere(database: str) -> None:
    async with L02Saver.from_url(database) as saver:
        assert "__interrupt__" in await graph(saver).ainvoke({"words": ["begin"]}, thread("1"))
    async with L02Saver.from_url(database, compression="zstd") as other:
        done = await graph(other).ainvoke(Command(resume="yes"), thread("1"))
    assert done["words"] == ["begin", "first", "yes"]


async def test_branches_that_begin_at_one_checkpoint_have_values_of_their_own(saver: L02Saver) -> None:
    compiled = graph(saver)
    await compiled.ainvoke({"words": ["begin"]}, thread("1"))
    asked = await compiled.aget_state(thread("1"))
    branches = [await compiled.aupdate_state(asked.config, {"words": [word]}, as_node="ask") for word in ("yes", "no")]
    for config, word in zip(branches, ("yes", "no"), strict=True):
        assert (await compiled.aget_state(config)).values["words"] == ["begin", "first", word]


async def test_without_await_it_works_in_other_threads_alone(saver: L02Saver) -> None:
    compiled = graph(saver)
    await compiled.ainvoke({"words": []}, thread("1"))
    found = await asyncio.to_thread(saver.get_tuple, thread("1"))
    assert found is not None and found.checkpoint["channel_values"]["words"] == ["first"]
    assert len([*await asyncio.to_thread(lambda: [*saver.list(thread("1"))])]) == 3
    with pytest.raises(RuntimeError, match="async methods"):
        saver.get_tuple(thread("1"))


async def test_what_is_damaged_is_refused(saver: L02Saver, database: str) -> None:
    await graph(saver).ainvoke({"words": []}, thread("1"))
    connection = await asyncpg.connect(database)
    await connection.execute("UPDATE l02.langgraph_values SET data = set_byte(data, 12, get_byte(data, 12) # 1)")
    await connection.close()
    with pytest.raises(Failure) as failure:
        await saver.aget_tuple(thread("1"))
    assert failure.value.code is ErrorCode.CHECKPOINT_CORRUPTED


async def test_what_is_pruned_leaves_nothing_but_the_latest(saver: L02Saver, database: str) -> None:
    compiled = graph(saver)
    await compiled.ainvoke({"words": []}, thread("1"))
    await compiled.ainvoke(Command(resume="yes"), thread("1"))
    await saver.aprune(["1"])
    assert (await compiled.aget_state(thread("1"))).values["words"] == ["first", "yes"]
    await saver.aprune(["1"], strategy="delete")
    connection = await asyncpg.connect(database, server_settings={"search_path": "l02"})
    for table in ("langgraph_checkpoints", "langgraph_values", "langgraph_writes"):
        assert await connection.fetchval(f"SELECT count(*) FROM {table}") == 0
    await connection.close()
    with pytest.raises(ValueError, match="keep_latest"):
        await saver.aprune(["1"], strategy="other")
