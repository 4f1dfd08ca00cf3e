"""Whatever bytes come in, a command or a Failure with a code comes out."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l02.bus.wire.incoming import MAX_COMMAND_BYTES, Incoming, command_id_of, content_of, read_command
from l02.bus.wire.subjects import AggregateId, CommandAddress, parse_command_subject
from l02.domain.agent.work.executions import Execute
from l02.domain.aggregates import AGENT, AGGREGATES
from l02.domain.errors import ErrorCode, Failure

VERBS = sorted(AGENT.wire_commands)
SPAWN = {"spec": {"name": "a", "entrypoint": "a.py"}}


def read(body: bytes | dict[str, Any], verb: str = "signal", **headers: str) -> Incoming:
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return read_command(AGGREGATES, CommandAddress(AggregateId("agent", "a1"), verb), raw, headers, command_id="c1")


def refused(body: bytes | dict[str, Any], verb: str = "signal") -> Failure:
    with pytest.raises(Failure) as failure:
        read(body, verb)
    assert failure.value.message
    return failure.value


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)
field_names = st.sampled_from(
    ["spec", "name", "payload", "input", "wait", "reason", "attempt", "expected_version", "origin", "fleet_id"]
)
bodies = st.binary() | st.dictionaries(field_names, json_values).map(
    # Encoded as other languages would: lone surrogates and huge numbers included.
    lambda fields: json.dumps(fields).encode()
)
names = st.text(max_size=300) | st.sampled_from(["agent", *VERBS])


@given(kind=names, aggregate_id=names, verb=names, body=bodies, headers=st.dictionaries(names, names))
def test_any_bytes_are_a_command_or_a_failure(
    kind: str, aggregate_id: str, verb: str, body: bytes, headers: dict[str, str]
) -> None:
    try:
        incoming = read_command(
            AGGREGATES, CommandAddress(AggregateId(kind, aggregate_id), verb), body, headers, command_id="c1"
        )
    except Failure as failure:
        assert failure.code in (ErrorCode.COMMAND_INVALID, ErrorCode.PAYLOAD_TOO_LARGE)
    else:
        assert msgspec.json.encode(incoming)


@given(verb=st.sampled_from(VERBS), body=bodies, actor=st.text(max_size=1_000))
def test_any_body_of_a_known_verb_is_a_command_or_a_failure(verb: str, body: bytes, actor: str) -> None:
    try:
        incoming = read(body, verb, **{"L02-Actor": actor, "traceparent": actor})
    except Failure as failure:
        assert failure.code is ErrorCode.COMMAND_INVALID
    else:
        assert len(incoming.metadata.actor) <= 256 and incoming.command.verb == verb
        assert incoming == read(body, verb, **{"L02-Actor": actor, "traceparent": actor})


@given(subject=st.text() | st.lists(names, max_size=7).map(lambda parts: ".".join(["l02.cmd", *parts])))
def test_any_subject_has_an_address_or_none(subject: str) -> None:
    address = parse_command_subject(subject)
    if address is not None:
        assert subject == f"l02.cmd.{address.aggregate.kind}.{address.aggregate.id}.{address.verb}"


@given(value=st.text())
def test_any_id_is_taken_as_it_is_or_refused(value: str) -> None:
    try:
        assert command_id_of({"Nats-Msg-Id": value}, "made-up") == (value or "made-up")
    except Failure as failure:
        assert failure.code is ErrorCode.COMMAND_INVALID


@pytest.mark.parametrize("value", ["a b", "a.b", "a>", "*", "ä", "x" * 129, "x" * 10_240, "\n", "../etc", "a\x00"])
def test_ids_that_would_not_be_one_token_are_refused(value: str) -> None:
    for refuse in (
        lambda: command_id_of({"Nats-Msg-Id": value}, "made-up"),
        lambda: command_id_of({"L02-Command-Id": value}, "made-up"),
        lambda: read_command(
            AGGREGATES, CommandAddress(AggregateId("agent", value), "signal"), b"{}", {}, command_id="c1"
        ),
    ):
        with pytest.raises(Failure) as failure:
            refuse()
        assert failure.value.code is ErrorCode.COMMAND_INVALID and len(failure.value.message) < 200


@pytest.mark.parametrize(
    ("body", "path", "words"),
    [
        ({"name": "x", "colour": 1}, "$", "unknown field `colour`"),
        ({"name": "x", "origin": {"actor": "root"}}, "$", "unknown field `origin`"),
        ({"name": 7}, "$.name", "Expected `str`"),
        ({"name": ""}, "$.name", "length >= 1"),
        ({"name": "x", "wait": "never"}, "$.wait", "never"),
        ({"name": "x", "expected_version": -1}, "$.expected_version", ">= 0"),
        ({}, "$", "missing required field `name`"),
        (b"[]", "$", "Expected `object`"),
    ],
)
def test_a_field_that_does_not_fit_is_named(body: bytes | dict[str, Any], path: str, words: str) -> None:
    failure = refused(body)
    assert failure.code is ErrorCode.COMMAND_INVALID
    assert failure.path == path and words in failure.message


def test_a_path_leads_into_the_specification() -> None:
    failure = refused({"spec": SPAWN["spec"] | {"resource_limits": {"cpu": []}}}, "spawn")
    assert failure.path == "$.spec.resource_limits.cpu"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"\xff\xfe",
        b'{"name":"\xff"}',
        b'{"name":"\\ud800"}',
        b'{"name":"x","payload":NaN}',
        b'{"name":"x","payload":Infinity}',
        b'{"name":"x","payload":1e400}',
        b'{"name":"x","payload":' + b"9" * 5_000 + b"}",
        b"[" * 100_000,
        b'{"name":"x","payload":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"name":"x","payload":' + b'{"a":' * 500 + b"1" + b"}" * 501,
        b'{"name":"x"',
    ],
    ids=lambda body: repr(body[:24]),
)
def test_what_is_no_json_for_every_reader_is_refused(body: bytes) -> None:
    assert refused(body).code is ErrorCode.COMMAND_INVALID


def test_what_is_taken_can_be_stored_and_read_again() -> None:
    deep: Any = 1
    for _ in range(100):
        deep = [{"a": deep}] if len(str(deep)) < 60 else [deep]
    flat = [[number] for number in range(1_000)]
    payloads: tuple[Any, ...] = (deep, flat, 2**64 - 1, -(2**63), 1.7e308, "\x00\u2028😀", {"": {}})
    for payload in payloads:
        assert read({"name": "x", "payload": payload}).command.payload == payload  # type: ignore[attr-defined]


def test_an_unknown_verb_or_aggregate_is_told_what_there_is() -> None:
    assert "signal" in refused({}, "x" * 1_000).message
    with pytest.raises(Failure, match="there are: agent"):
        read_command(AGGREGATES, CommandAddress(AggregateId("x" * 1_000, "a"), "y"), b"{}", {}, command_id="c")


def test_a_body_over_a_mebibyte_is_too_large() -> None:
    fits = msgspec.json.encode({"input": "x" * (MAX_COMMAND_BYTES - 12)})
    assert len(fits) == MAX_COMMAND_BYTES and isinstance(read(fits, "execute").command, Execute)
    assert refused(fits + b" ", "execute").code is ErrorCode.PAYLOAD_TOO_LARGE
    assert refused(b"x" * 2 * MAX_COMMAND_BYTES, "execute").code is ErrorCode.PAYLOAD_TOO_LARGE


TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def test_the_runtime_fills_in_where_a_command_comes_from() -> None:
    incoming = read({"name": "x"}, **{"L02-Actor": "ann", "traceparent": TRACE})
    assert incoming.metadata.actor == "ann"
    assert incoming.metadata.causation_id == "c1"
    assert incoming.metadata.traceparent == TRACE
    assert read({"name": "x"}).metadata.actor == "anonymous"


def test_the_hash_is_of_what_the_command_says_and_not_of_how_or_by_whom() -> None:
    one = read(b'{"name":"x","payload":{"a":1,"b":2}}', **{"L02-Actor": "ann"}).metadata.command_hash
    assert one == read(b'{ "payload":{"b":2,"a":1}, "name":"x" }').metadata.command_hash
    assert one != read(b'{"name":"x","payload":{"a":1,"b":3}}').metadata.command_hash


# What the first version that was released has stored with the events of these commands.
FIRST_HASHES = (
    ("spawn", b'{"spec":{"name":"w","entrypoint":"/w.py"}}', "5d7ccb38e8715fd58df721771462c43e"),
    (
        "spawn",
        b'{"spec":{"name":"w","command":["w"],"tools":{"git":{"command":["git"]}},"resource_limits":{"memory":"64Mi"}},'
        b'"wait":"accepted","fleet_id":"f1"}',
        "9d874657a06c496f4f1df822e0bcafab",
    ),
    ("execute", b'{"input":{"b":1,"a":[2,null]},"expected_version":3}', "bc3712f7e2fc0ea42f98cd52e0033b09"),
    ("execute", b'{"input":"count","wait":"complete"}', "0996fff95585dcb14d5ff654c965c036"),
    ("signal", b'{"name":"go"}', "bdb8c19b6621241ced36c4c1e627d552"),
    ("signal", b'{"name":"go","payload":null}', "bdb8c19b6621241ced36c4c1e627d552"),
    ("signal", b'{"name":"go","payload":true}', "20f836ec570481cde3ed84d84169b6be"),
    ("checkpoint", b"{}", "4f884122d74c01fbc68e606981f79683"),
    ("checkpoint", b'{"label":"kept"}', "05d6070688f6c62b7b9565160e2026a0"),
    ("restore", b'{"checkpoint_id":"k1"}', "cc9143b1816b69d6a6f6849f674ef0b7"),
    ("fork", b'{"from_agent_id":"b1","version":7}', "0ffd45614f79c5b70d842dd2d55ce2b3"),
    ("suspend", b"{}", "f3623ada2a95fa665c0e5bd2e9a86ff1"),
    ("suspend", b'{"reason":"night"}', "aed6b4ef546ada186b2efec366fef5d7"),
    ("resume", b'{"assume":"done","result":5}', "e2c7a5d33271a0803d2abd56e304bc7c"),
    ("resume", b"{}", "1ca27ec6bf923d2e995a4c5b7c270be7"),
    ("terminate", b"{}", "48c8a2716b5eabf08a3443a05ea22a47"),
    ("terminate", b'{"reason":"drain"}', "9493b2f2458a670b545a3058d9bfe18d"),
)


@pytest.mark.parametrize(("verb", "body", "command_hash"), FIRST_HASHES)
def test_a_command_of_before_is_the_same_command_today(verb: str, body: bytes, command_hash: str) -> None:
    assert content_of(AGGREGATES, f"l02.cmd.agent.a1.{verb}", body) == command_hash


@pytest.mark.parametrize(
    ("verb", "body"),
    [
        ("suspend", b'{"checkpoint":false}'),
        ("terminate", b'{"force":true}'),
        ("spawn", b'{"spec":{"name":"w","entrypoint":"/w.py"},"state":{}}'),
    ],
)
def test_what_is_new_in_a_command_tells_it_from_others(verb: str, body: bytes) -> None:
    assert content_of(AGGREGATES, f"l02.cmd.agent.a1.{verb}", body) not in {known for _, _, known in FIRST_HASHES}


def test_what_is_new_and_says_nothing_does_not() -> None:
    said = content_of(AGGREGATES, "l02.cmd.agent.a1.suspend", b'{"checkpoint":true}')
    assert said == content_of(AGGREGATES, "l02.cmd.agent.a1.suspend", b"{}")


@pytest.mark.parametrize(
    ("limits", "same"),
    [("{}", True), ('{"tokens_per_hour":100000}', True), ('{"tokens_per_hour":0}', False),
     ('{"tokens_per_hour":null}', False), ('{"tokens_per_day":100000}', False), ('{"action":"suspend"}', False)],
)  # fmt: skip
def test_a_limit_that_was_left_out_is_the_one_it_was_at_first(limits: str, same: bool) -> None:
    spawn = f'{{"spec":{{"name":"w","entrypoint":"/w.py","resource_limits":{limits}}}}}'
    hashed = content_of(AGGREGATES, "l02.cmd.agent.a1.spawn", spawn.encode())
    assert (hashed == "5d7ccb38e8715fd58df721771462c43e") is same
