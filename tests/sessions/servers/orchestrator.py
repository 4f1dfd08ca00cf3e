"""A context-orchestrator that does as a file says, and writes down what it was asked: `orchestrator.py DIRECTORY`.

DIRECTORY/mode holds how it behaves at this moment: `good`, or one of the ways to be bad below. DIRECTORY/calls gets a
line of JSON for each call that reached a tool, DIRECTORY/lost the answer of check_recovery.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

DIRECTORY = Path(sys.argv[1])
TOOLS = ("get_unified_context", "save_context_snapshot", "create_checkpoint", "rollback_to", "check_recovery")


def mode() -> str:
    return (DIRECTORY / "mode").read_text()


def write(message: Any) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def text(number: int, content: str, is_error: bool = False) -> None:
    write({"id": number, "result": {"content": [{"type": "text", "text": content}], "isError": is_error}})


def good(tool: str, arguments: dict[str, Any], count: int) -> Any:
    if tool == "save_context_snapshot":
        return {"success": True, "taskId": arguments["taskId"], "version": count, "savedTo": {}, "timestamp": "now"}
    if tool == "create_checkpoint":
        return {"success": True, "checkpointId": f"c{count}", "label": arguments["label"]}
    if tool == "rollback_to":
        return {"success": True, "taskId": arguments["taskId"], "backupCheckpointId": f"b{count}"}
    if tool == "check_recovery":
        lost = DIRECTORY / "lost"
        names = json.loads(lost.read_text()) if lost.exists() else []
        return {
            "needsRecovery": bool(names),
            "sessions": [{"sessionId": name, "recoveryType": "crash", "lastActivity": "yesterday"} for name in names],
        }
    task = {"task": {"taskId": arguments["taskId"]}} if "taskId" in arguments and mode() != "forgetful" else {}
    return {"projectId": "p", "global": {}, **task, "metadata": {}}


def call(number: int, tool: str, arguments: dict[str, Any]) -> None:
    with (DIRECTORY / "calls").open("a") as file:
        file.write(json.dumps([tool, arguments]) + "\n")
    count = len((DIRECTORY / "calls").read_text().splitlines())
    now = mode()
    if now == "hang":
        time.sleep(600)
    elif now == "deaf":  # to one call, but not for ever
        return
    elif now == "die":
        os._exit(7)
    elif now == "noise":
        print("Traceback (most recent call last):", flush=True)
    elif now == "raw":  # these bytes, and then the answer
        os.write(1, (DIRECTORY / "raw").read_bytes().replace(b"@ID@", str(number).encode()))
        text(number, json.dumps(good(tool, arguments, count)))
    elif now == "garbage":
        text(number, "all is well")
    elif now == "odd":
        text(number, json.dumps({"success": True, "version": {"major": 1}, "sessions": 7, "checkpointId": 7}))
    elif now == "failed":
        text(number, json.dumps({"success": False, "reason": "the disk is full"}))
    elif now == "forgetful" and "taskId" in arguments and tool != "get_unified_context":
        text(number, "Task not found", is_error=True)
    elif now == "error" or (now == "unknown" and "taskId" in arguments):
        text(number, "Task not found" if now == "unknown" else "out of order", is_error=True)
    elif now == "rpc error":
        write({"id": number, "error": {"code": -32000, "message": "out of order"}})
    elif now == f"no {tool}":
        text(number, "not this one", is_error=True)
    else:
        text(number, json.dumps(good(tool, arguments, count)))


def main() -> None:
    if mode() == "exit":
        sys.exit(3)
    if mode() == "silent":
        time.sleep(600)
    for line in sys.stdin:
        request = json.loads(line)
        number, method = request.get("id"), request["method"]
        if method == "initialize":
            version = request["params"]["protocolVersion"]
            information = {"name": "orchestrator", "version": "1"}
            write(
                {
                    "id": number,
                    "result": {
                        "protocolVersion": version,
                        "capabilities": {"tools": {}},
                        "serverInfo": information,
                    },
                }
            )
        elif method == "tools/list":
            tools = [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]
            write({"id": number, "result": {"tools": tools}})
        elif method == "tools/call":
            call(number, request["params"]["name"], request["params"].get("arguments") or {})


main()
