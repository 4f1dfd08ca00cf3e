"""An event that was stored once can be read for ever, and is stored the same way for ever."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import UNSET
from msgspec.structs import replace

from l02.bus.wire.codec import EventDecoder, UnreadableEvent, cloud_event
from l02.domain.agent.life.spawning import SpawnRequested
from l02.domain.agent.work.executions import ExecutionFailed
from l02.domain.aggregates import AGGREGATES, EVENT_TYPES
from tests.golden.samples import EVENTS, SAMPLES, encoded, file_name
from tests.golden.write import write

DECODER = EventDecoder(AGGREGATES.values())

SIGNAL = "agent.signal.received"
event_types = pytest.mark.parametrize("event_type", sorted(EVENT_TYPES))


def golden(event_type: str) -> bytes:
    return (EVENTS / file_name(event_type)).read_bytes()


def test_every_type_has_a_golden_file_and_none_is_gone() -> None:
    needed = {
        f"{name}.json" if version == 1 else f"{name}.{version}.json"
        for name, event_type in EVENT_TYPES.items()
        for version in range(1, event_type.schema_version + 1)
    }
    assert {path.name for path in EVENTS.iterdir()} == needed, (
        "new: add it to tests/golden/samples.py and run `python -m tests.golden.write`; "
        "gone: a released type stays, and so does each of its schema versions"
    )


@pytest.mark.parametrize("path", sorted(EVENTS.iterdir()), ids=lambda path: path.name)
def test_bytes_of_every_released_version_are_read(path: Path) -> None:
    recorded = DECODER.decode(path.read_bytes(), 42)
    assert recorded.event.type == msgspec.json.decode(path.read_bytes())["type"]


@event_types
def test_it_is_stored_as_these_bytes(event_type: str) -> None:
    assert encoded(SAMPLES[event_type]) == golden(event_type)


@event_types
def test_these_bytes_are_read_as_it(event_type: str) -> None:
    assert DECODER.decode(golden(event_type), 42) == SAMPLES[event_type]


@event_types
def test_its_sample_leaves_no_field_out(event_type: str) -> None:
    data = cloud_event(SAMPLES[event_type])["data"]
    assert data.keys() == set(EVENT_TYPES[event_type].__struct_encode_fields__)
    assert {name for name, value in data.items() if value in (None, [], {})} == set()


@event_types
def test_extensions_of_others_do_not_matter(event_type: str) -> None:
    stored = msgspec.json.decode(golden(event_type), type=dict[str, Any])
    assert DECODER.decode(msgspec.json.encode({**stored, "dataschema": "urn:x"}), 42) == SAMPLES[event_type]


def test_what_an_earlier_version_did_not_say() -> None:
    """Agents of before are not suspended for idleness, and no failure of before was to be mended by a person."""
    spawn = DECODER.decode((EVENTS / "agent.spawn.requested.json").read_bytes(), 42).event
    failed = DECODER.decode((EVENTS / "agent.execution.failed.json").read_bytes(), 42).event
    assert isinstance(spawn, SpawnRequested)
    assert isinstance(failed, ExecutionFailed)
    assert spawn.spec.lifecycle.suspend_idle_after_seconds is None
    assert spawn.spec.lifecycle.hung_after_seconds is None
    assert not failed.held


def test_what_is_not_set_of_the_envelope_is_left_out() -> None:
    sample = SAMPLES[SIGNAL]
    bare = replace(sample, metadata=replace(sample.metadata, traceparent=None, command_hash=None))
    whole = golden(SIGNAL)
    assert cloud_event(bare).keys() == msgspec.json.decode(whole).keys() - {"traceparent", "commandhash"}
    assert DECODER.decode(encoded(bare), 42) == bare


def test_a_completed_execution_may_leave_the_state_alone() -> None:
    sample = SAMPLES["agent.execution.completed"]
    unchanged = replace(sample, event=replace(sample.event, state=UNSET))
    assert "state" not in cloud_event(unchanged)["data"]
    assert DECODER.decode(encoded(unchanged), 42) == unchanged


@pytest.mark.parametrize(
    ("change", "saying"),
    [
        ({"type": "agent.vanished"}, "unknown type 'agent.vanished'; upgrade"),
        ({"schemaversion": 2}, "schema version 2, this node knows 1; upgrade"),
        ({"data": {"name": 1}}, "data of agent.signal.received do not fit"),
        ({"data": None}, "data of agent.signal.received do not fit"),
        ({"version": "7"}, "not a CloudEvent of this runtime"),
    ],
)
def test_what_this_version_does_not_know_is_never_skipped(change: dict[str, Any], saying: str) -> None:
    stored = msgspec.json.decode(golden(SIGNAL), type=dict[str, Any])
    with pytest.raises(UnreadableEvent, match="sequence 42.*" + saying):
        DECODER.decode(msgspec.json.encode({**stored, **change}), 42)


@pytest.mark.parametrize("cut", [0, 1, 100, -1])
def test_what_is_cut_off_is_unreadable(cut: int) -> None:
    raw = golden(SIGNAL)
    with pytest.raises(UnreadableEvent):
        DECODER.decode(raw[:cut], 42)


def test_only_what_is_missing_is_written(tmp_path: Path) -> None:
    kept = tmp_path / f"{SIGNAL}.json"
    kept.write_bytes(b"as it was")
    assert write(tmp_path) == [file_name(event_type) for event_type in SAMPLES if event_type != SIGNAL]
    assert write(tmp_path) == []
    assert kept.read_bytes() == b"as it was"
    assert (tmp_path / "agent.spawned.json").read_bytes() == golden("agent.spawned")
