"""Restate: a handler of durable steps (`ctx.run`), asked over its server's ingress, as its clients do.

The server comes from npm; its log is synced by default. The handler runs in this process's child, under Hypercorn or
Granian with HTTP/2, so that an invocation is one stream in both directions.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import restate
import uvloop

from benchmarks.in_flight import in_flight

OPTIONS: dict[str, Any] = json.loads(sys.argv[1]) if len(sys.argv) == 2 else {}

service = restate.Service("Peer")


@service.handler()  # type: ignore[untyped-decorator]
async def work(ctx: restate.Context, steps: int) -> Any:
    for number in range(steps):
        output = await ctx.run_typed(f"step {number}", lambda: "done")
    return output


app = restate.app([service])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until_ok(session: aiohttp.ClientSession, method: str, url: str, body: object = None) -> None:
    end = time.perf_counter() + 60
    while True:
        try:
            async with session.request(method, url, json=body) as response:
                if response.status < 300:
                    return
        except aiohttp.ClientError:
            pass
        if time.perf_counter() > end:
            raise TimeoutError(url)
        await asyncio.sleep(0.1)


async def measure(admin: int, ingress: int, handler: int) -> dict[str, float]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=OPTIONS["in_flight"])) as session:
        await until_ok(session, "GET", f"http://127.0.0.1:{admin}/health")
        await until_ok(session, "POST", f"http://127.0.0.1:{admin}/deployments", {"uri": f"http://127.0.0.1:{handler}"})
        url = f"http://127.0.0.1:{ingress}/Peer/work"
        await until_ok(session, "POST", url, OPTIONS["steps"])

        async def invoke(_: int) -> None:
            async with session.post(url, json=OPTIONS["steps"]) as response:
                assert await response.json() == "done"

        return await in_flight(invoke, OPTIONS)


def quiet(command: list[str], directory: Path, environment: dict[str, str] | None) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command, cwd=directory, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def under(port: int) -> list[str]:
    """The server of the handler, of the two that the SDK's documentation names, and its options."""
    if OPTIONS["under"] == "granian":
        # Asked to end, its worker waits for ever for Restate's connections.
        ends = ["--workers-kill-timeout", "1"]
        return ["granian", "--interface", "asgi", "--http", "2", "--loop", "uvloop", *ends, "--port", str(port)]
    return ["hypercorn", "--worker-class", "uvloop", "--log-level", "ERROR", "--bind", f"127.0.0.1:{port}"]


def main() -> dict[str, float]:
    admin, ingress, handler, fabric = (free_port() for _ in range(4))
    with tempfile.TemporaryDirectory() as directory:
        environment = os.environ | {
            "RESTATE_BASE_DIR": directory,
            "RESTATE_LISTEN_MODE": "tcp",
            "RESTATE_BIND_ADDRESS": f"127.0.0.1:{fabric}",
            "RESTATE_ADMIN__BIND_ADDRESS": f"127.0.0.1:{admin}",
            "RESTATE_INGRESS__BIND_ADDRESS": f"127.0.0.1:{ingress}",
            "RESTATE_LOG_FILTER": "error",
            "DO_NOT_TRACK": "1",
        }
        processes = [
            quiet([OPTIONS["restate_server"], "--no-logo"], Path(directory), environment),
            quiet([sys.executable, "-m", *under(handler), "restate_step:app"], Path(__file__).parent, None),
        ]
        try:
            return uvloop.run(measure(admin, ingress, handler))
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.wait()


if __name__ == "__main__":
    # Ended from outside, it still ends its children.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    print(json.dumps(main()))
