"""On a NATS server that takes 1 MiB a message, what is larger goes in pieces or by reference, or is E2115."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from l02.bus.embedded import EmbeddedNats
from l02.client.client import Client
from l02.domain.errors import ErrorCode, Failure
from l02.node.running import running_node
from l02.node.settings import Settings
from tests.runtime.conftest import worker

STOCK_BYTES = 1 << 20


async def test_large_things(database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("l02.bus.embedded.nats_server._MAX_PAYLOAD_BYTES", STOCK_BYTES)
    server = EmbeddedNats(tmp_path / "nats")
    url = await server.start()
    try:
        async with (
            running_node(Settings(data_dir=tmp_path / "node", nats_url=url, postgres_url=database)) as node,
            Client.connect(nats_url=url, actor="tests") as client,
        ):
            assert node.parts.bus.client.max_payload == STOCK_BYTES
            await client.spawn(worker(executor={"context_window_tokens": 10_000_000}), id="w")

            async def output(*steps: Any) -> Any:
                return (await client.execute("w", {"steps": steps})).output

            assert await output(["tool", "large", {"size": 3_000_000}]) == ["x" * 3_000_000]
            many = ["tool", "large", {"size": 250_000}]
            assert await output(*[many] * 8) == ["x" * 250_000] * 8
            assert await output(["state", "a", "z" * 700_000], ["state", "b", "z" * 250_000]) == []
            assert await output(["bytes", "c", 3_000_000]) == []
            streamed = [piece async for piece in client.stream("w", {"steps": [["emit", "y" * 900_000]]})]
            assert "".join(piece for piece in streamed if isinstance(piece, str)) == "y" * 900_000
            with pytest.raises(Failure) as failed:
                await output(["fail", "q" * 900_000])
            assert (failed.value.code, len(failed.value.message) <= 8192) == (ErrorCode.EXECUTION_FAILED, True)
            with pytest.raises(Failure) as refused:
                await client.execute("w", "x" * 2_000_000)
            assert refused.value.code is ErrorCode.PAYLOAD_TOO_LARGE
            assert (await client.signal("w", "go", "p" * 1_000_000)).ok
            assert await client.checkpoint("w")
            assert await output(["read", "b"]) == ["z" * 250_000]
            read = [recorded.event.type async for recorded in client.events("w")]
            asked = msgspec.json.encode({"aggregate": "agent", "id": "w", "limit": 1000})
            answer = await node.parts.bus.requests.request("l02.api.events.read", asked, timeout=10)
            page = msgspec.json.decode(answer.data)
            assert page["ok"] and page["result"]["more"] and page["result"]["events"]
            assert read[0] == "agent.spawn.requested" and read[-1] == "agent.execution.completed"
            view = await client.get("w")
            assert (view.restarts, view.executions_failed) == (0, 1)
            assert node.parts.why_not_ready() == []
    finally:
        await server.stop()
