"""Golden bytes of every message, and a decoder that answers any bytes with a message or one error."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l02.bus.wire.agent.lines import (
    MAX_LINE,
    LineBuffer,
    ProtocolError,
    decode_agent_message,
    decode_node_message,
    encode,
)
from l02.bus.wire.agent.protocol import (
    AgentMessage,
    Answer,
    Begin,
    Call,
    CallError,
    Complete,
    Diverged,
    Emit,
    Execute,
    Fail,
    Hello,
    LoadFailed,
    NodeMessage,
    OwnSteps,
    Ping,
    Pong,
    Recorded,
    RunTool,
    Shutdown,
    StateChanges,
    Step,
    Steps,
    ToolDescription,
    ToolFailure,
    ToolResult,
)

STEPS = [
    Step(1, "now", 0, result=1.5),
    Step(2, "tool", 0, tool="t", arguments={"a": 1}, result=2),
    Step(3, "tool", 1, tool="t", arguments={}, ok=False, result={"code": "E2001", "message": "why"}),
    Step(1, "thread", 1),
]
STEPS_AS_JSON = (
    b'[{"call":1,"kind":"now","after":0,"result":1.5},'
    b'{"call":2,"kind":"tool","after":0,"tool":"t","arguments":{"a":1},"result":2},'
    b'{"call":3,"kind":"tool","after":1,"tool":"t","arguments":{},"ok":false,"result":{"code":"E2001","message":"why"}},'
    b'{"call":1,"kind":"thread","after":1}]'
)
FROM_AGENT: list[tuple[AgentMessage, bytes]] = [
    (
        Hello(1, "a", [ToolDescription("t", "does", {"type": "object"}, idempotent=True)], answers_pings=True),
        b'{"type":"hello","protocol":1,"name":"a","tools":[{"name":"t","description":"does",'
        b'"schema":{"type":"object"},"idempotent":true}],"answers_pings":true,"records_steps":false}',
    ),
    (Begin("x", 1, "t"), b'{"type":"begin","execution_id":"x","call":1,"tool":"t"}'),
    (Diverged("x", "why"), b'{"type":"diverged","execution_id":"x","message":"why"}'),
    (Steps("x", STEPS), b'{"type":"steps","execution_id":"x","steps":' + STEPS_AS_JSON + b"}"),
    (LoadFailed("why"), b'{"type":"load_failed","message":"why"}'),
    (
        Call("x", 1, "tool", tool="t", arguments={"a": 1}),
        b'{"type":"call","execution_id":"x","call":1,"kind":"tool","tool":"t","arguments":{"a":1}}',
    ),
    (Call("x", 2, "now"), b'{"type":"call","execution_id":"x","call":2,"kind":"now"}'),
    (Call("x", 3, "random"), b'{"type":"call","execution_id":"x","call":3,"kind":"random"}'),
    (
        Call("x", 4, "sleep", seconds=1.5),
        b'{"type":"call","execution_id":"x","call":4,"kind":"sleep","seconds":1.5}',
    ),
    (
        Call("x", 5, "signal", name="approve", timeout=None),
        b'{"type":"call","execution_id":"x","call":5,"kind":"signal","name":"approve","timeout":null}',
    ),
    (
        Call("x", 7, "checkpoint", label=None, state=StateChanges({"a": 1}, ["b"])),
        b'{"type":"call","execution_id":"x","call":7,"kind":"checkpoint","label":null,'
        b'"state":{"set":{"a":1},"delete":["b"]}}',
    ),
    (
        Call("x", 6, "signal", name="approve", timeout=2.0),
        b'{"type":"call","execution_id":"x","call":6,"kind":"signal","name":"approve","timeout":2.0}',
    ),
    (
        ToolResult("x", 1, True, result=None),
        b'{"type":"tool_result","execution_id":"x","call":1,"ok":true,"result":null}',
    ),
    (
        Call(
            "x",
            8,
            "model",
            model="small",
            messages=[{"role": "user", "content": "hi"}],
            tools=[{"type": "function", "function": {"name": "t", "parameters": {}}}],
            tool_choice="auto",
            output_schema={"type": "object"},
            max_tokens=100,
            temperature=0.5,
            stream=True,
            parameters={"seed": 7},
        ),
        b'{"type":"call","execution_id":"x","call":8,"kind":"model","model":"small",'
        b'"messages":[{"role":"user","content":"hi"}],'
        b'"tools":[{"type":"function","function":{"name":"t","parameters":{}}}],"tool_choice":"auto",'
        b'"output_schema":{"type":"object"},"max_tokens":100,"temperature":0.5,"stream":true,"parameters":{"seed":7}}',
    ),
    (
        ToolResult("x", 1, False, error=ToolFailure("why")),
        b'{"type":"tool_result","execution_id":"x","call":1,"ok":false,"error":{"message":"why"}}',
    ),
    (Emit("x", 0, "é"), '{"type":"emit","execution_id":"x","n":0,"delta":"é"}'.encode()),
    (
        Complete("x", [1], StateChanges({"k": 1}, ["d"])),
        b'{"type":"complete","execution_id":"x","output":[1],"state":{"set":{"k":1},"delete":["d"]}}',
    ),
    (Fail("x", "why"), b'{"type":"fail","execution_id":"x","message":"why"}'),
    (
        Fail("x", "why", "E2002"),
        b'{"type":"fail","execution_id":"x","message":"why","code":"E2002"}',
    ),
    (Pong(), b'{"type":"pong"}'),
]
FROM_NODE: list[tuple[NodeMessage, bytes]] = [
    (
        Execute("x", {"a": None}, {"k": 1}),
        b'{"type":"execute","execution_id":"x","input":{"a":null},"state":{"k":1}}',
    ),
    (
        Execute("x", 1, {}, OwnSteps(4, 2, 60.0, 2, 3, 5, 1000)),
        b'{"type":"execute","execution_id":"x","input":1,"state":{},"own":{"recorded":4,"answers":2,"tool_timeout_seconds":60.0,'
        b'"max_concurrent_tools":2,"max_tool_retries":3,"tokens":5,"window_tokens":1000}}',
    ),
    (Recorded("x", STEPS), b'{"type":"recorded","execution_id":"x","steps":' + STEPS_AS_JSON + b"}"),
    (
        Answer("x", 1, True, result="r"),
        b'{"type":"answer","execution_id":"x","call":1,"ok":true,"result":"r"}',
    ),
    (
        Answer("x", 1, False, error=CallError("E2002", "TOOL_TIMEOUT", "late")),
        b'{"type":"answer","execution_id":"x","call":1,"ok":false,'
        b'"error":{"code":"E2002","name":"TOOL_TIMEOUT","message":"late"}}',
    ),
    (
        RunTool("x", 1, "t", {"a": 1}),
        b'{"type":"run_tool","execution_id":"x","call":1,"tool":"t","arguments":{"a":1}}',
    ),
    (Shutdown(), b'{"type":"shutdown"}'),
    (Ping(), b'{"type":"ping"}'),
]


@pytest.mark.parametrize(("message", "golden"), FROM_AGENT)
def test_agent_messages_have_these_bytes(message: AgentMessage, golden: bytes) -> None:
    assert encode(message) == golden + b"\n"
    assert decode_agent_message(golden) == message


@pytest.mark.parametrize(("message", "golden"), FROM_NODE)
def test_node_messages_have_these_bytes(message: NodeMessage, golden: bytes) -> None:
    assert encode(message) == golden + b"\n"
    assert decode_node_message(golden) == message


def test_every_message_has_golden_bytes() -> None:
    assert {type(message) for message, _ in FROM_AGENT} == set(AgentMessage.__args__)
    assert {type(message) for message, _ in FROM_NODE} == set(NodeMessage.__args__)


def test_fields_of_a_later_version_are_passed_over() -> None:
    assert decode_node_message(b'{"type":"shutdown","grace":3}') == Shutdown()


def test_a_program_may_leave_out_what_has_nothing_in_it() -> None:
    assert decode_agent_message(b'{"type":"hello","protocol":1,"name":"a"}') == Hello(1, "a", [])
    assert decode_agent_message(b'{"type":"complete","execution_id":"x","output":null}') == Complete(
        "x", None, StateChanges({}, [])
    )


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\xff\xfe",
        b'{"type":"emit","execution_id":"x","n":0,"delta":"\xff"}',
        b'{"type":"complete","execution_id":"x","output":"\\ud800"}',
        b'{"type":"complete","execution_id":"x","output":' + b"[" * 200_000,
        b'{"type":"complete","execution_id":"x","output":' + b"9" * 10_000 + b"}",
        b'{"type":"complete","execution_id":"x","output":NaN}',
        b'{"type":"unknown"}',
        b'{"execution_id":"x"}',
        b"[]",
        b'{"type":"fail","execution_id":"x","message":"a"}{}',
        b'{"type":"call","execution_id":"x","call":0,"kind":"now"}',
        b'{"type":"call","execution_id":"x","call":1,"kind":"dance"}',
        b'{"type":"call","execution_id":"x","call":1,"kind":"tool","tool":"t"}',
        b'{"type":"call","execution_id":"x","call":1,"kind":"sleep","seconds":-1}',
        b'{"type":"call","execution_id":"x","call":1,"kind":"signal","name":"s"}',
        b'{"type":"call","execution_id":"x","call":1,"kind":"checkpoint","label":null}',
        b'{"type":"call","execution_id":"x","call":1,"kind":"checkpoint","label":"","state":{}}',
        b'{"type":"emit","execution_id":"x","n":-1,"delta":""}',
        b'{"type":"tool_result","execution_id":"x","call":1,"ok":true}',
        b'{"type":"tool_result","execution_id":"x","call":1,"ok":false,"result":1}',
        b'{"type":"fail","execution_id":"x","message":"' + b"a" * MAX_LINE + b'"}',
    ],
    ids=lambda line: repr(line[:60]),
)
def test_anything_else_is_a_protocol_error(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode_agent_message(line)


_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_fields = st.sampled_from(
    ["execution_id", "call", "kind", "tool", "arguments", "ok", "result", "error", "n", "state", "output", "input"]
)
_types = st.sampled_from(["hello", "call", "tool_result", "emit", "complete", "fail", "execute", "answer", "run_tool"])
_likely = st.builds(
    lambda kind, fields: {"type": kind, **fields}, _types, st.dictionaries(_fields, _values, max_size=6)
)


@given(st.binary() | st.builds(msgspec.json.encode, _values | _likely))
def test_any_bytes_are_a_message_or_a_protocol_error(line: bytes) -> None:
    for decode in (decode_agent_message, decode_node_message):
        try:
            message = decode(line)
        except ProtocolError:
            continue
        assert decode(encode(message)[:-1]) == message


@given(st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b""))), st.data())
def test_lines_come_out_whole_however_the_stream_is_cut(lines: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    buffer, out = LineBuffer(), []
    while stream:
        size = data.draw(st.integers(1, len(stream)))
        out += list(buffer.feed(stream[:size]))
        stream = stream[size:]
    assert out == lines


def test_a_line_without_end_is_refused_before_it_fills_the_memory() -> None:
    buffer = LineBuffer()
    assert list(buffer.feed(b"a" * MAX_LINE)) == []
    with pytest.raises(ProtocolError, match="16 MiB"):
        list(buffer.feed(b"a"))


def test_a_message_over_the_limit_is_not_encoded() -> None:
    with pytest.raises(ProtocolError, match="16 MiB"):
        encode(Emit("x", 0, "a" * MAX_LINE))
