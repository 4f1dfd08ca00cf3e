"""All that is decided has its file of tests, and none of it speaks to an aggregate that does not exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from msgspec import NODEFAULT
from msgspec.structs import fields

from l02.domain.aggregates import AGGREGATES
from l02.domain.errors import ErrorCode
from l02.domain.kernel.aggregate import Aggregate
from l02.domain.kernel.message import Command, Event, Report
from tests.domain.given_when_then import Given

DECIDED = [
    (aggregate, message)
    for aggregate in AGGREGATES.values()
    if aggregate.takes_commands
    for message in aggregate.messages
    if issubclass(message, Command | Report)
]


def words(value: Aggregate[Any] | type[Event | Command]) -> str:
    return value.name if isinstance(value, Aggregate) else re.sub("(?<!^)(?=[A-Z])", "_", value.__name__).lower()


def whatever_it_says(message: type[Command | Report]) -> Command | Report:
    """One that nothing is asked of."""
    return message(**{field.name: None for field in fields(message) if NODEFAULT is field.default})


@pytest.mark.parametrize(("aggregate", "message"), DECIDED, ids=words)
def test_what_is_decided_has_its_file(aggregate: Aggregate[Any], message: type[Command | Report]) -> None:
    tests = (Path(__file__).parent / aggregate.name / f"test_{words(message)}.py").read_text()
    assert "def test_happened" in tests


@pytest.mark.parametrize("aggregate", AGGREGATES.values(), ids=words)
def test_what_has_a_decide_is_decided(aggregate: Aggregate[Any]) -> None:
    for message in aggregate.messages:
        assert hasattr(message, "decide") == issubclass(message, Command | Report)


@pytest.mark.parametrize(
    ("aggregate", "message"), [(aggregate, one) for aggregate, one in DECIDED if not one.begins], ids=words
)
def test_there_must_be_one(aggregate: Aggregate[Any], message: type[Command | Report]) -> None:
    assert "`l02 " in aggregate.absent, "say what to type next"
    Given(aggregate, ()).when(whatever_it_says(message)).fails(ErrorCode.AGGREGATE_NOT_FOUND, aggregate.absent)
