"""Every message of MCP that a server sends, with a hostile value in each of its fields in turn, as raw bytes."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

from l02.domain.specification import ToolServer
from tests.conftest import PLAIN_PYTHON

SERVER = Path(__file__).with_name("servers") / "hostile.py"

VALUES: tuple[bytes, ...] = (
    *(b"null", b"true", b"0", b"-1", b"1.5", b"1e999", b"NaN", b"9" * 400, b"9" * 6000, b"18446744073709551616"),
    *(b'""', b'"x"', b'"\xff\xfe"', rb'"\ud800"', rb'"\udc00\ud800 x"', rb'"\u0000"', b'"' + b"y" * 20_000 + b'"'),
    *(b"[]", b"{}", b"[null]", b'{"": {}}', rb'{"\ud800": 1, "\ud800": 2}', b'[{"type": "text"}]', b"[[1], {}]"),
    *(b"[" * 2000 + b"]" * 2000, b'{"a":' * 150 + b"1" + b"}" * 150, b"@ID@", b""),
)

NOISE: tuple[bytes, ...] = (
    *(
        b"Welcome to the server!",
        b"\xef\xbb\xbf",
        b"\xff\xfe\x00",
        b"{",
        b'{"jsonrpc": "2.0"',
        b"[1, 2",
        b'"2.0"',
        b"null",
    ),
    *(
        b"\r",
        b"\x00" * 100,
        b"\x1b[31mred\x1b[0m",
        b'{"level": "info", "id": @ID@, "msg": "listening"}',
        b"[]",
        b"[@ID@]",
    ),
    *(rb'{"half": "\ud83d"}', b"{}" * 1000, b"}" * 10_000, b"data: {}", b"Content-Length: 20\r\n\r"),
)

_RESULT = {
    "content": [
        {"type": "text", "text": "t", "annotations": {"audience": ["user"]}, "_meta": {}},
        {"type": "image", "data": "AAAA", "mimeType": "image/png"},
        {"type": "audio", "data": "AAAA", "mimeType": "audio/wav"},
        {"type": "resource_link", "uri": "file:///a", "name": "a"},
        {"type": "resource", "resource": {"uri": "file:///a", "text": "t", "blob": "AAAA", "mimeType": "text/plain"}},
    ],
    "structuredContent": {"a": 1},
    "isError": False,
    "_meta": {"a": 1},
    "resultType": "complete",
}
_MESSAGES: tuple[dict[str, object], ...] = (
    {"id": "@ID@", "result": _RESULT},
    {"id": "@ID@", "result": {"content": [{"type": "image", "data": "AAAA"}], "isError": True}},
    {"id": "@ID@", "error": {"code": -32000, "message": "out of order", "data": {"a": 1}}},
    {"id": "@ID@", "result": None, "error": None},
    {"id": 99, "result": {}},
    {"id": "s1", "method": "ping", "params": {"_meta": {}}},
    {"id": "s2", "method": "roots/list", "params": {}},
    {"id": "s3", "method": "sampling/createMessage", "params": {"messages": [], "maxTokens": 1}},
    {"id": "s4", "method": "elicitation/create", "params": {"message": "who?", "requestedSchema": {}}},
    {"id": "s5", "method": "no/such", "params": {}},
    {"method": "notifications/progress", "params": {"progressToken": "@ID@", "progress": 1, "total": 2}},
    {"method": "notifications/message", "params": {"level": "info", "data": "x"}},
    {"method": "notifications/cancelled", "params": {"requestId": "@ID@", "reason": "x"}},
    {"method": "notifications/resources/updated", "params": {"uri": "file:///a"}},
    {"method": "notifications/tools/list_changed", "params": {}},
    {"method": "notifications/elicitation/complete", "params": {"elicitationId": "1"}},
    {"method": "notifications/unknown", "params": {}},
)
_TOOL = {"name": "say", "title": "t", "description": "d", "inputSchema": {"type": "object"}, "outputSchema": {}}
_LIST = {"id": "@ID@", "result": {"tools": [{**_TOOL, "annotations": {}, "_meta": {}}], "nextCursor": "", "_meta": {}}}
_INITIALIZED = {
    "id": "@ID@",
    "result": {
        "protocolVersion": "2025-11-25",
        "capabilities": {"tools": {"listChanged": True}},
        "serverInfo": {"name": "h", "version": "1"},
        "instructions": "none",
    },
}


def messages() -> Iterator[bytes]:
    """All but the answers to `initialize` and `tools/list`."""
    yield from (line + b"\n" for line in NOISE)
    yield b'{"jsonrpc": "2.0", "id": @ID@, "result": [' + b"[]," * 300_000 + b"[]]}\n"
    for message in _MESSAGES:
        whole = _line(message)
        yield from (whole, whole * 3, b"[" + whole.strip() + b"]\n", whole[: len(whole) // 2] + b"\n")
        yield from spoiled(message, VALUES)


def lists() -> Iterator[bytes]:
    """Answers to `tools/list`."""
    many = [{**_TOOL, "name": f"t{number}"} for number in range(20_000)]
    yield _line({"id": "@ID@", "result": {"tools": many}})
    yield from spoiled(_LIST, VALUES)


def handshakes() -> Iterator[bytes]:
    """Answers to `initialize`."""
    yield from (line + b"\n" for line in (b"", b"Welcome!", b"[" * 50_000, b'{"jsonrpc": "2.0", "id": @ID@}'))
    yield from spoiled(_INITIALIZED, (b"null", b"[]", rb'"\ud800"', b"9" * 400))


def _line(message: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **message}).encode().replace(b'"@ID@"', b"@ID@") + b"\n"  # type: ignore[dict-item]


def spoiled(message: object, values: tuple[bytes, ...]) -> Iterator[bytes]:
    """The message once for each of its fields, at any depth, and each value."""
    yield from spoiled_fields({"jsonrpc": "2.0", **message}, values)  # type: ignore[dict-item]


def spoiled_fields(whole: object, values: tuple[bytes, ...]) -> Iterator[bytes]:
    """Any object so."""
    for place in _places(whole):
        marked = json.dumps(_with(whole, place, "@HERE@")).encode().replace(b'"@ID@"', b"@ID@") + b"\n"
        yield from (marked.replace(b'"@HERE@"', value) for value in values)


def _places(value: object, at: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    if at:
        yield at
    if isinstance(value, dict):
        for key in value:
            yield from _places(value[key], (*at, key))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _places(item, (*at, number))


def _with(value: object, place: tuple[str | int, ...], new: object) -> object:
    if not place:
        return new
    first, *rest = place
    if isinstance(value, dict):
        return {key: _with(item, tuple(rest), new) if key == first else item for key, item in value.items()}
    assert isinstance(value, list)
    return [_with(item, tuple(rest), new) if number == first else item for number, item in enumerate(value)]


def encoded(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def hostile_server(name: str = "", **replies: bytes) -> ToolServer:
    """A specification of `servers/hostile.py`; replies by method, `_` for its slash."""
    by_method = {method.replace("_", "/"): encoded(raw) for method, raw in replies.items()}
    return ToolServer(command=(*PLAIN_PYTHON, str(SERVER), json.dumps(by_method), name), read=(str(SERVER.parent),))
