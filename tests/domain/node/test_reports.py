"""What is reported of a node, and when that is news."""

import pytest

from l02.domain.aggregates import NODE
from l02.domain.message import Event
from l02.domain.node import commands as c
from l02.domain.node import events as e
from l02.domain.node.state import NodeState, NodeStatus
from tests.domain.given_when_then import Given

CAPACITY = e.Capacity(cpu=2, memory_bytes=1024, runtime_classes=("process", "landlock"))
JOINED = e.NodeJoined(
    node_id="n1", capacity=CAPACITY, host="here", pid=1, http_url="http://127.0.0.1:1", version="0.1.0"
)
LEFT = e.NodeLeft(node_id="n1", capacity=CAPACITY)
LOST = e.NodeLost(node_id="n1", capacity=CAPACITY, reported_by="n2")
JOIN = c.Join(node_id="n1", capacity=CAPACITY, host="here", pid=1, http_url="http://127.0.0.1:1", version="0.1.0")


def given(*past: Event) -> Given[NodeState]:
    return Given(NODE, past)


@pytest.mark.parametrize("past", [(), (JOINED,), (JOINED, LEFT), (JOINED, LOST)])
def test_a_node_joins_whatever_became_of_it_before(past: tuple[Event, ...]) -> None:
    assert given(*past).when(JOIN).then(JOINED).state.status is NodeStatus.JOINED


def test_a_node_leaves() -> None:
    assert given(JOINED).when(c.Leave()).then(LEFT).state.status is NodeStatus.LEFT


def test_a_node_is_lost() -> None:
    assert given(JOINED).when(c.ReportLost(reported_by="n2")).then(LOST).state.status is NodeStatus.LOST


@pytest.mark.parametrize("past", [(), (JOINED, LEFT), (JOINED, LOST)])
@pytest.mark.parametrize("command", [c.Leave(), c.ReportLost(reported_by="n3")])
def test_ignored_of_one_that_is_not_there(past: tuple[Event, ...], command: c.Leave | c.ReportLost) -> None:
    given(*past).when(command).ignored()
