"""A server that writes the bytes it is told to: `hostile.py REPLIES`, REPLIES a JSON object of replies by method.

A reply is written as it stands, in base64, with `@ID@` for the request's id and `@(x*3)@` for `x,x,x`; other requests
are answered as MCP wants.
The tool `say` writes its argument `raw` so, and then answers; `relist` makes its `raw` the list of tools from now on.
"""

from __future__ import annotations

import base64
import json
import os
import re
import sys
from typing import Any

replies: dict[str, str] = json.loads(sys.argv[1])
GOOD: dict[str, Any] = {
    "initialize": {
        "protocolVersion": "2025-11-25",
        "capabilities": {"tools": {"listChanged": True}},
        "serverInfo": {"name": "hostile", "version": "1"},
    },
    "tools/list": {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in ("say", "relist", "echo")]},
}


def write(raw: bytes) -> None:
    while raw:
        raw = raw[os.write(1, raw) :]


def send(message: Any) -> None:
    write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")


def write_told(raw: str, number: Any) -> None:
    text = base64.b64decode(raw).replace(b"@ID@", json.dumps(number).encode())
    write(re.sub(rb"@\((.*?)\*(\d+)\)@", lambda many: b",".join([many[1]] * int(many[2])), text))


for line in sys.stdin.buffer:
    request = json.loads(line)
    number, method = request.get("id"), request.get("method")
    if number is None or method is None:
        continue
    if method in replies:
        write_told(replies[method], number)
        continue
    result = GOOD.get(method, {})
    if method == "tools/call":
        arguments = request["params"].get("arguments") or {}
        name = request["params"]["name"]
        if name == "say":
            write_told(arguments["raw"], number)
        elif name == "relist":
            replies["tools/list"] = arguments["raw"]
            send({"method": "notifications/tools/list_changed"})
        result = {"content": [{"type": "text", "text": arguments.get("text", "well")}]}
    send({"id": number, "result": result})
