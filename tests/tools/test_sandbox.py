"""A tool server reaches what its specification grants, and nothing else."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from l02.domain.specification import RuntimeClass
from l02.handlers.tool_servers import ToolNotRun, ToolServers
from tests.sandbox import reach
from tests.sandbox.listeners import Listeners
from tests.tools.conftest import WORKSHOP, landlock_only, specification

pytestmark = landlock_only


@pytest.fixture
def listeners(tmp_path: Path) -> Iterator[Listeners]:
    made = Listeners(str(tmp_path))
    yield made
    made.close()


async def attempt(servers: ToolServers, server: Any, what: str, target: object) -> Any:
    return await servers.call(server, "attempt", {"what": what, "target": str(target)}, timeout=60)


async def test_files(servers: ToolServers, tmp_path: Path) -> None:
    for name in ("granted", "writable", "secret"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    server = specification("workshop", read=(str(tmp_path / "granted"),), write=(str(tmp_path / "writable"),))
    assert await attempt(servers, server, "read", tmp_path / "granted/file") == {"done": "granted"}
    assert await attempt(servers, server, "write", tmp_path / "writable/file") == {"done": True}
    assert (tmp_path / "writable/file").read_text() == "written"
    for what, path in (
        ("read", tmp_path / "secret/file"),
        ("read", "/etc/shadow"),
        ("read", f"/proc/{os.getpid()}/environ"),
        ("write", tmp_path / "secret/file"),
        ("write", tmp_path / "granted/file"),
    ):
        result = await attempt(servers, server, what, path)
        assert "refused" in result, (what, path)
    assert (tmp_path / "secret/file").read_text() == "secret"
    assert (tmp_path / "granted/file").read_text() == "granted"


async def test_network(servers: ToolServers, shared_servers: ToolServers) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert await attempt(shared_servers, WORKSHOP, "connect", port) == {"refused": "PermissionError"}
        connected = specification("workshop", network=(f"127.0.0.1:{port}",))
        assert await attempt(servers, connected, "connect", port) == {"done": True}


async def test_nobody_is_reached_in_another_way(servers: ToolServers, listeners: Listeners) -> None:
    script = str(Path(reach.__file__))
    server = specification("workshop", read=(script,))
    result = await servers.call(server, "reach", {"script": script, "targets": listeners.targets}, timeout=60)
    assert result == {"reached": []}
    assert listeners.arrived() == []


async def test_environment_and_scratch_directory(
    servers: ToolServers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_KEY", "for the node only")
    state = await servers.call(WORKSHOP, "state", {}, timeout=60)
    assert state["environment"]["COLOUR"] == "green"
    assert "MODEL_KEY" not in state["environment"]
    scratch = Path(state["cwd"])
    assert scratch.parent == tmp_path / "scratch"
    assert scratch.stat().st_mode & 0o777 == 0o700
    assert await attempt(servers, WORKSHOP, "write", "note") == {"done": True}
    assert (scratch / "note").read_text() == "written"


async def test_log(servers: ToolServers, tmp_path: Path) -> None:
    await servers.call(WORKSHOP, "complain", {"text": "it hurts"}, timeout=60)
    (log,) = (tmp_path / "logs").iterdir()
    assert "it hurts" in log.read_text()
    assert log.stat().st_mode & 0o777 == 0o600


async def test_a_class_that_is_not_there_is_refused(tmp_path: Path) -> None:
    async with ToolServers(tmp_path / "scratch", tmp_path / "logs", RuntimeClass.GVISOR) as servers:
        with pytest.raises(ToolNotRun, match="runtime class gvisor is not available"):
            await servers.call(WORKSHOP, "state", {}, timeout=60)
