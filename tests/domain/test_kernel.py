"""What every message must say for itself."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import ClassVar

import pytest
from msgspec.structs import replace

from l02.domain.kernel.aggregate import Aggregate
from l02.domain.kernel.message import Command, Context, Event, Report
from tests.golden.samples import SAMPLES


class Asked(Command, frozen=True, kw_only=True):
    """Says nothing of what follows."""


class Happened(Event, frozen=True, kw_only=True):
    """Says nothing of the state after it."""

    type: ClassVar[str] = "toy.happened"


class Seen(Report, frozen=True, kw_only=True):
    """Says nothing of whether it is news."""

    type: ClassVar[str] = "toy.seen"

    def evolve(self, state: int, /) -> int:
        return state


class SeenAsItIs(Report, frozen=True, kw_only=True):
    """Says nothing of the state after it."""

    type: ClassVar[str] = "toy.seen_as_it_is"

    def decide(self, state: int, context: Context, /) -> list[Event]:
        return []


@pytest.mark.parametrize(
    ("message", "lacks"), [(Asked, "decide"), (Happened, "evolve"), (Seen, "decide"), (SeenAsItIs, "evolve")]
)
def test_a_message_that_does_not_say_what_follows_is_refused(message: type[Event | Command], lacks: str) -> None:
    with pytest.raises(TypeError, match=re.escape(f"{message.__qualname__} has no `{lacks}`")):
        Aggregate(
            name="toy", initial_state=int, exists=bool, messages=(message,), fold_version=1, absent="there is none"
        )


def test_nor_does_it_pass_the_type_checker(tmp_path: Path) -> None:
    toy = tmp_path / "toy.py"
    toy.write_text(
        "from l02.domain.agent.messages import AgentCommand, AgentEvent\n"
        "class Greet(AgentCommand, frozen=True, kw_only=True): ...\n"
        "class Greeted(AgentEvent, frozen=True, kw_only=True): ...\n"
        "Greet()\n"
        "Greeted()\n"
    )
    checked = subprocess.run([sys.executable, "-m", "mypy", toy], capture_output=True, text=True, check=False)
    for line, name, lacks in ((4, "Greet", "decide"), (5, "Greeted", "evolve")):
        said = f'toy.py:{line}: error: Cannot instantiate abstract class "{name}" with abstract attribute "{lacks}"'
        assert said in checked.stdout


@pytest.mark.parametrize("event_type", sorted(SAMPLES))
def test_an_outcome_is_owed_to_who_awaits_it(event_type: str) -> None:
    event = SAMPLES[event_type].event
    assert event.owed_to() == getattr(event, "awaited_by", None)
    if "awaited_by" in event.__struct_fields__:
        assert event.owed_to() is not None, "its sample leaves no field out"
        assert replace(event, awaited_by=None).owed_to() is None
