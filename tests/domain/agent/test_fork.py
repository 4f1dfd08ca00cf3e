from typing import Literal

import msgspec
import pytest
from msgspec.structs import replace

from l02.domain.agent.saved.forks import Fork, ForkFrom
from l02.domain.errors import ErrorCode
from tests.domain.agent.story import MOVED_ON, RUNNING, given, past_after
from tests.domain.given_when_then import context

FORK = Fork(from_agent_id="a0", checkpoint_id="k1")


@pytest.mark.parametrize(("wait", "awaited_by"), [("complete", "c1"), ("accepted", None)])
def test_happened_when_its_past_is_found(wait: Literal["complete", "accepted"], awaited_by: str | None) -> None:
    past = past_after(*MOVED_ON)
    found = ForkFrom(from_agent_id="a0", checkpoint_id="k1", past=past, awaited_by=awaited_by)
    assert replace(FORK, wait=wait).of(past, context("c1")) == found


def test_refused_without_a_past() -> None:
    given().when(FORK).fails(ErrorCode.AGGREGATE_NOT_FOUND, "no agent 'a0'", "$.from_agent_id")


def test_refused_when_the_agent_exists() -> None:
    given(*RUNNING).when(FORK).fails(ErrorCode.INVALID_STATE, "choose another id")


@pytest.mark.parametrize("points", [{"at": 1, "version": 1}, {"version": 1, "checkpoint_id": "k1"}])
def test_one_point_is_enough(points: dict[str, object]) -> None:
    with pytest.raises(msgspec.ValidationError, match="at most one"):
        msgspec.convert({"from_agent_id": "a0", **points}, Fork)
