"""Nodes that run side by side, in threads, each hand in their writes: what has finished is not run again."""

from __future__ import annotations

import operator
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any, TypedDict

import pytest

pytest.importorskip("langgraph", reason="needs the extra `langgraph`")

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command, interrupt

from l02.agent.langgraph import StateSaver

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
    together = [[task, number, path, channel, value] for path, task, number, channel, value in saver._written("1", "")]
    for key in [key for key in state if '"write"' in key]:
        del state[key]
    state['langgraph ["1", "", "writes"]'] = together
    runs: Counter[int] = Counter()
    resumed = compiled(StateSaver(state), runs, ASKING).invoke(answers(result), THREAD)
    assert sorted(resumed["done"]) == [*range(NODES)]
    assert set(runs) == ASKING
    assert not [key for key in state if '"write' in key]
