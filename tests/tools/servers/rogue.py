"""A server that speaks just enough MCP to misbehave: from the start, as its argument says, or in one of its tools."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from typing import Any

NAMES = ("echo", "garbage", "huge", "wrong", "error", "leave", "chatter", "deaf", "strict")
later: list[tuple[int, str]] = []


def write(message: Any) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def huge() -> None:
    for _ in range(100):
        os.write(1, b"x" * 1_000_000)
    os.write(1, b"\n")


def answer_later() -> None:
    for number, text in later:
        write({"id": number, "result": {"content": [{"type": "text", "text": text}]}})
    later.clear()


def call(number: int, name: str, arguments: dict[str, Any]) -> None:
    if name == "later":
        later.append((number, arguments["text"]))
    elif name == "too long":
        answer: dict[str, Any] = {"result": {"content": [{"type": "text", "text": "x" * 9_000_000}]}, "jsonrpc": "2.0"}
        answer = {**answer, "id": number} if arguments["order"] == "id last" else {"id": number, **answer}
        print(json.dumps(answer), flush=True)
        answer_later()
    elif name == "huge":
        huge()
    elif name == "wrong":
        write({"id": number, "result": {"content": "not a list"}})
    elif name == "error":
        write({"id": number, "error": {"code": -32000, "message": "out of order"}})
    elif name == "leave" and "code" in arguments:
        os._exit(arguments["code"])
    elif name == "leave":
        os.kill(os.getpid(), signal.SIGTERM)
    elif name == "deaf":
        time.sleep(600)
    else:
        if name == "garbage":
            print("Traceback (most recent call last):", flush=True)
            answer_later()
        if name == "how many wait":
            arguments = {"text": str(len(later))}
        if name == "pid":
            arguments = {"text": str(os.getpid())}
        if name == "chatter":
            for n in range(20_000):
                write({"method": "notifications/message", "params": {"level": "info", "data": n}})
            write({"id": "p1", "method": "ping"})
            write({"id": "s1", "method": "sampling/createMessage", "params": {"messages": [], "maxTokens": 1}})
            answers = [json.loads(sys.stdin.readline()) for _ in range(2)]
            arguments = {"text": json.dumps(sorted((a["id"], "error" in a) for a in answers))}
        write({"id": number, "result": {"content": [{"type": "text", "text": arguments.get("text", "")}]}})


def main(mode: str) -> None:
    if mode == "exit":
        sys.exit(3)
    if mode == "silent":
        time.sleep(600)
    if mode == "banner":
        print("Welcome to the rogue server!", flush=True)
    if mode == "huge":
        huge()
    if mode == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for line in sys.stdin:
        request = json.loads(line)
        number, method = request.get("id"), request["method"]
        if method == "initialize":
            information = {"name": "rogue", "version": "1"}
            version = "1999-01-01" if mode == "ancient" else request["params"]["protocolVersion"]
            result: dict[str, Any] = {"protocolVersion": version, "capabilities": {"tools": {}}}
            write({"id": number, "result": result | {"serverInfo": information}})
        elif method == "tools/list":
            page = int((request.get("params") or {}).get("cursor", "0"))
            end = {"nextCursor": str(page + 1)} if page + 1 < len(NAMES) or mode == "endless" else {}
            name = NAMES[page % len(NAMES)]
            text = {"type": "string", "pattern": "^(a+)+$"}
            schema = {"type": "object", **({"properties": {"text": text}} if name == "strict" else {})}
            tools = [{"name": name, "inputSchema": schema}]
            write({"id": number, "result": {"tools": tools} | end})
        elif method == "tools/call":
            call(number, request["params"]["name"], request["params"].get("arguments") or {})
    while mode == "stubborn":
        time.sleep(600)


main(sys.argv[1] if len(sys.argv) > 1 else "")
