"""What is reported of a node, and when that is news."""

import pytest

from l02.domain.aggregates import NODE
from l02.domain.kernel.message import Event
from l02.domain.node.membership import Leave, NodeJoined, NodeLeft, NodeLost, ReportLost
from l02.domain.node.state import Capacity, NodeState, NodeStatus
from tests.domain.given_when_then import Given

CAPACITY = Capacity(cpu=2, memory_bytes=1024, runtime_classes=("process", "landlock"))
JOINED = NodeJoined(node_id="n1", capacity=CAPACITY, host="here", pid=1, http_url="http://127.0.0.1:1", version="0.1.0")
LEFT = NodeLeft(node_id="n1", capacity=CAPACITY)
LOST = NodeLost(node_id="n1", capacity=CAPACITY, reported_by="n2")


def given(*past: Event) -> Given[NodeState]:
    return Given(NODE, past)


@pytest.mark.parametrize("past", [(), (JOINED,), (JOINED, LEFT), (JOINED, LOST)])
def test_a_node_joins_whatever_became_of_it_before(past: tuple[Event, ...]) -> None:
    assert given(*past).when(JOINED).then(JOINED).state.status is NodeStatus.JOINED


def test_a_node_leaves() -> None:
    assert given(JOINED).when(Leave()).then(LEFT).state.status is NodeStatus.LEFT


def test_a_node_is_lost() -> None:
    assert given(JOINED).when(ReportLost(reported_by="n2")).then(LOST).state.status is NodeStatus.LOST


@pytest.mark.parametrize("past", [(), (JOINED, LEFT), (JOINED, LOST)])
@pytest.mark.parametrize("command", [Leave(), ReportLost(reported_by="n3")])
def test_ignored_of_one_that_is_not_there(past: tuple[Event, ...], command: Leave | ReportLost) -> None:
    given(*past).when(command).ignored()


@pytest.mark.parametrize(
    ("past", "is_there"), [((), False), ((JOINED,), True), ((JOINED, LEFT), False), ((JOINED, LOST, JOINED), True)]
)
def test_a_node_is_there_until_it_leaves_or_is_missed(past: tuple[Event, ...], is_there: bool) -> None:
    assert given(*past).state.is_there is is_there
