"""Nodes that run side by side, in threads, each hand in their writes: what has finished is not run again."""

from __future__ import annotations

import operator
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any, TypedDict

import pytest

pytest.importorskip("langgraph", reason="needs the extra `langgraph`")

from langgraph.checkpoint.base import WRITES_IDX_MAP, BaseCheckpointSaver, empty_checkpoint
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

from l02.agent.langgraph import StateSaver
from l02.bus.wire.agent.values import State as AgentState
from l02.langgraph import L02Saver

THREAD: Any = {"configurable": {"thread_id": "1"}}
NODES = 40
ASKING = {3, 17}


@pytest.fixture(autouse=True)
def threads_take_turns_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class State(TypedDict):
    done: Annotated[list[int], operator.add]


def compiled(saver: BaseCheckpointSaver[Any], runs: Counter[int], asking: set[int]) -> Any:
    def node(number: int) -> Any:
        def run(state: State) -> State:
            if number in asking:
                interrupt(number)
            runs[number] += 1
            return {"done": [number]}

        return run

    graph = StateGraph(State)
    for number in range(NODES):
        graph.add_node(str(number), node(number))
        graph.add_edge(START, str(number))
        graph.add_edge(str(number), END)
    return graph.compile(checkpointer=saver)


def answers(result: Any) -> Command[Any]:
    return Command(resume={asked.id: True for asked in result["__interrupt__"]})


@pytest.mark.parametrize("attempt", range(3))
@pytest.mark.parametrize("anew", [False, True], ids=["one saver", "a saver anew"])
def test_what_has_finished_is_not_run_again(attempt: int, anew: bool) -> None:
    runs: Counter[int] = Counter()
    state: dict[str, Any] = {}
    graph = compiled(StateSaver(state), runs, ASKING)
    result = graph.invoke({"done": []}, THREAD)
    assert {asked.value for asked in result["__interrupt__"]} == ASKING
    if anew:
        graph = compiled(StateSaver(state), runs, ASKING)
    result = graph.invoke(answers(result), THREAD)
    assert sorted(result["done"]) == [*range(NODES)]
    assert runs == Counter(range(NODES))


async def test_nor_with_an_event_loop() -> None:
    runs: Counter[int] = Counter()
    graph = compiled(StateSaver({}), runs, ASKING)
    result = await graph.ainvoke({"done": []}, THREAD)
    assert sorted((await graph.ainvoke(answers(result), THREAD))["done"]) == [*range(NODES)]
    assert runs == Counter(range(NODES))


def test_nor_when_it_is_streamed() -> None:
    runs: Counter[int] = Counter()
    graph = compiled(StateSaver(AgentState({})), runs, ASKING)
    asked = [one for update in graph.stream({"done": []}, THREAD) for one in update.get("__interrupt__", ())]
    assert {one.value for one in asked} == ASKING
    streamed = list(graph.stream(answers({"__interrupt__": asked}), THREAD))
    assert {str(number) for number in ASKING} <= {name for update in streamed for name in update}
    assert sorted(graph.get_state(THREAD).values["done"]) == [*range(NODES)]
    assert runs == Counter(range(NODES))


async def test_nor_with_the_saver_of_the_database(database: str) -> None:
    runs: Counter[int] = Counter()
    async with L02Saver.from_url(database) as saver:
        graph = compiled(saver, runs, ASKING)
        result = await graph.ainvoke({"done": []}, THREAD)
        result = await graph.ainvoke(answers(result), THREAD)
    assert sorted(result["done"]) == [*range(NODES)]
    assert runs == Counter(range(NODES))


def test_nor_if_another_saver_has_looked_at_the_state_before() -> None:
    runs: Counter[int] = Counter()
    state = AgentState({})
    compiled(StateSaver(state), Counter(), set()).invoke({"done": []}, THREAD)
    other = compiled(StateSaver(state), runs, ASKING)
    assert sorted(other.get_state(THREAD).values["done"]) == [*range(NODES)]
    result = compiled(StateSaver(state), runs, ASKING).invoke({"done": []}, THREAD)
    other.invoke(answers(result), THREAD)
    assert runs == Counter(range(NODES))


def test_graphs_side_by_side_over_one_state() -> None:
    state = AgentState({"langgraph": "an agent's own key", "langgraph notes": "another"})
    together = threading.Barrier(4)

    def run(thread: str) -> Counter[int]:
        runs: Counter[int] = Counter()
        graph = compiled(StateSaver(state), runs, ASKING)
        place: Any = {"configurable": {"thread_id": thread}}
        together.wait(30)
        result = graph.invoke({"done": []}, place)
        graph.invoke(answers(result), place)
        return runs

    with ThreadPoolExecutor(4) as threads:
        assert [*threads.map(run, "abcd")] == [Counter(range(NODES))] * 4
    for thread in "abcd":
        StateSaver(state).delete_thread(thread)
    assert dict(state) == {"langgraph": "an agent's own key", "langgraph notes": "another"}


def test_writes_from_several_threads_are_those_of_the_saver_in_memory() -> None:
    """Regular writes stay what they were first; those of the special channels are the newest."""

    def kept(saver: BaseCheckpointSaver[Any]) -> dict[str, list[tuple[str, Any]]]:
        place: Any = {"configurable": {"thread_id": "1", "checkpoint_ns": ""}}
        place = saver.put(place, empty_checkpoint(), {"source": "loop", "step": 0, "parents": {}}, {})
        together = threading.Barrier(16)

        def write(task: str) -> None:
            together.wait(30)
            saver.put_writes(place, [("a", 1), ("b", task)], task, f"path {task}")
            saver.put_writes(place, [("a", 2), ("b", "again")], task, f"path {task}")
            for channel in WRITES_IDX_MAP:
                saver.put_writes(place, [(channel, "first")], task, f"path {task}")
                saver.put_writes(place, [(channel, "newest")], task, f"path {task}")

        tasks = [f"{number:02}" for number in range(16)]
        with ThreadPoolExecutor(16) as threads:
            assert [*threads.map(write, tasks)] == [None] * 16
        found = saver.get_tuple(place)
        assert found is not None and found.pending_writes is not None
        return {
            task: sorted((channel, value) for of, channel, value in found.pending_writes if of == task)
            for task in tasks
        }

    special = [(channel, "newest") for channel in WRITES_IDX_MAP]
    expected = {f"{n:02}": sorted([("a", 1), ("b", f"{n:02}"), *special]) for n in range(16)}
    assert kept(StateSaver(AgentState({}))) == expected == kept(InMemorySaver())


@pytest.mark.parametrize("first", [True, False], ids=["the first", "a later one"])
def test_writes_may_come_before_the_checkpoint_they_are_behind(first: bool) -> None:
    """LangGraph hands both in from threads of their own; what is behind an older one goes."""

    def kept(saver: BaseCheckpointSaver[Any]) -> list[tuple[str, str, Any]]:
        place: Any = {"configurable": {"thread_id": "1", "checkpoint_ns": ""}}
        if not first:
            place = saver.put(place, empty_checkpoint(), {"source": "input", "step": -1, "parents": {}}, {})
            saver.put_writes(place, [("a", "of the step before")], "before")
        before, coming = place, empty_checkpoint()
        ahead: Any = {"configurable": {"thread_id": "1", "checkpoint_ns": "", "checkpoint_id": coming["id"]}}
        saver.put_writes(ahead, [("a", 1), ("b", 2)], "task", "path")
        if not first:
            found = saver.get_tuple({"configurable": {"thread_id": "1", "checkpoint_ns": ""}})
            assert found is not None and found.pending_writes == [("before", "a", "of the step before")]
        saver.put(before, coming, {"source": "loop", "step": 0, "parents": {}}, {})
        if not first:
            saver.put_writes(before, [("a", "late")], "before")
        found = saver.get_tuple({"configurable": {"thread_id": "1", "checkpoint_ns": ""}})
        assert found is not None and found.pending_writes is not None
        return found.pending_writes

    state = AgentState({})
    assert kept(StateSaver(state)) == [("task", "a", 1), ("task", "b", 2)] == kept(InMemorySaver())
    assert len([key for key in state if '"write"' in key]) == 2


def test_it_keeps_as_much_after_many_runs_as_after_one() -> None:
    state: dict[str, Any] = {}
    sizes = set()
    for _ in range(3):
        compiled(StateSaver(state), Counter(), set()).invoke({"done": []}, THREAD)
        sizes.add(len(state))
    assert len(sizes) == 1


def test_pending_writes_are_those_of_the_saver_in_memory() -> None:
    """Order of tasks, and the special channels, whose writes may be repeated."""
    found = []
    for saver in (StateSaver({}), InMemorySaver()):
        graph = compiled(saver, Counter(), ASKING)
        graph.invoke({"done": []}, THREAD)
        kept = saver.get_tuple(THREAD)
        assert kept is not None and kept.pending_writes is not None
        found.append(Counter(channel for _, channel, _ in kept.pending_writes))
    assert found[0] == found[1]


def test_writes_that_an_earlier_version_kept_together_are_read() -> None:
    state: dict[str, Any] = {}
    saver = StateSaver(state)
    result = compiled(saver, Counter(), ASKING).invoke({"done": []}, THREAD)
    latest = state['langgraph ["1", "", "checkpoint"]']["id"]
    written = saver._written("1", "", latest)
    together = [[task, number, path, channel, value] for path, task, number, channel, value in written]
    for key in [key for key in state if '"write"' in key]:
        del state[key]
    state['langgraph ["1", "", "writes"]'] = together
    runs: Counter[int] = Counter()
    resumed = compiled(StateSaver(state), runs, ASKING).invoke(answers(result), THREAD)
    assert sorted(resumed["done"]) == [*range(NODES)]
    assert set(runs) == ASKING
    assert not [key for key in state if '"write' in key]
