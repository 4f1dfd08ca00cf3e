"""A tool server that writes into a file what it is told, so that a test can count how often it was called.

It speaks MCP without the package `mcp`, whose import takes a second: a test here starts ten and more.
"""

import json
import secrets
import sys
import time
from pathlib import Path
from typing import Any

LEDGER = Path(sys.argv[1])
NOTE = {
    "name": "note",
    "description": "Append a line, then take that many seconds.",
    "inputSchema": {
        "type": "object",
        "properties": {"text": {"type": "string"}, "seconds": {"type": "number", "default": 0.0}},
        "required": ["text"],
    },
}
LOOK = NOTE | {"name": "look", "description": "The same; gives something else each time. It may be called again."}


def look(text: str, seconds: float = 0.0) -> str:
    note(text, seconds)
    return f"{text}: {secrets.token_hex(4)}"


def note(text: str, seconds: float = 0.0) -> str:
    with LEDGER.open("a") as file:
        file.write(f"{text}\n")
    time.sleep(seconds)
    return f"noted {text}"


def answer(method: str, params: dict[str, Any]) -> dict[str, Any]:
    match method:
        case "initialize":
            version = params["protocolVersion"]
            information = {"name": "ledger", "version": "1"}
            return {"protocolVersion": version, "capabilities": {"tools": {}}, "serverInfo": information}
        case "tools/list":
            return {"tools": [NOTE, LOOK]}
        case "tools/call":
            act = {"note": note, "look": look}[params["name"]]
            return {"content": [{"type": "text", "text": act(**params["arguments"])}]}
    return {}


for line in sys.stdin:
    request = json.loads(line)
    if "id" in request:
        result = answer(request["method"], request.get("params") or {})
        print(json.dumps({"jsonrpc": "2.0", "id": request["id"], "result": result}), flush=True)
