"""Keys stay with the node: they are in nothing that it writes, says, shows or starts, whatever an endpoint does."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from urllib.request import urlopen

import psutil
import pytest

from l02.client.client import Client
from tests.model_calls.conftest import ask, asker
from tests.models.endpoint import Answer, Asked, Raw, Refuse, scripted_endpoint
from tests.models.shapes import Say

IN_A_VARIABLE, IN_A_FILE = "sk-hunter2-of-the-variable", "sk-hunter2-of-the-file"
SIGN = b"hunter2"


def _key(asked: Asked) -> str:
    return asked.headers.get("x-api-key") or asked.headers["authorization"].removeprefix("Bearer ")


def _echo(asked: Asked) -> Answer:
    key = _key(asked)
    said = asked.body["messages"][-1]["content"]
    match said if isinstance(said, str) else said[0]["text"]:
        case "refuse":
            return Refuse(401, f"no such key: {key}")
        case "break":
            return Raw(f'data: {{"error": "{key}"}}\n\n'.encode(), content_type="text/event-stream")
        case "tell":
            return Say(f"your key is {key}")
        case "fail":
            return Refuse(503, key, {"x-key": key})
    return Say("Hello")


def _files(directory: Path, sign: bytes) -> list[Path]:
    """Those that hold it."""
    every = (path for path in directory.rglob("*") if path.is_file() and not path.is_symlink())
    return [path for path in every if sign in path.read_bytes()]


def _processes(pid: int) -> list[str]:
    """Those below this one that show a sign of a key, in their arguments or their environment."""
    shown = []
    for process in psutil.Process(pid).children(recursive=True):
        told = b"".join((Path(f"/proc/{process.pid}") / name).read_bytes() for name in ("cmdline", "environ"))
        if SIGN in told:
            shown.append(process.name())
    return shown


def _page(url: str) -> bytes:
    with urlopen(url) as page:
        return bytes(page.read())


@pytest.mark.server
async def test_they_are_nowhere(tmp_path: Path, data_dir: Path) -> None:
    (tmp_path / "key").write_text(IN_A_FILE)
    (tmp_path / "key").chmod(0o600)
    async with scripted_endpoint() as endpoint:
        endpoint.script = _echo
        chat = {"endpoint": endpoint.url, "model": "any", "key": {"env": "A_KEY"}, "max_retries": 1}
        messages = {**chat, "api": "anthropic", "key": {"file": "key"}}
        told = {"model_bridge": {"breaker_failures": 1000}, "models": {"small": [chat], "large": [messages]}}
        (tmp_path / "l02.yaml").write_text(json.dumps(told))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("L02_")}
        up = ("up", "--config", str(tmp_path / "l02.yaml"), "--data-dir", str(data_dir), "--log-format", "json")
        node = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "l02.cli", *up), stderr=PIPE, env=environment | {"A_KEY": IN_A_VARIABLE}
        )
        assert node.stderr
        try:
            said = [await node.stderr.readline()]
            while b'"ready"' not in said[-1]:
                said.append(await node.stderr.readline())
                assert said[-1], b"".join(said)
            runtime = json.loads((data_dir / "l02.json").read_text())
            async with Client.connect(nats_url=runtime["nats_url"], actor="tests") as client:
                await client.spawn(asker(), id="a1")
                steps = [
                    ask(text, model=model, stream=stream)
                    for text in ("refuse", "break", "tell", "fail", "hello")
                    for model in ("small", "large")
                    for stream in (False, True)
                ]
                output = (await client.execute("a1", steps)).output
                assert [answer.get("text") for answer in output[-4:]] == ["Hello"] * 4
                assert {answer.get("code") for answer in output[:-4]} == {"E2100", "E2101"}
                assert {_key(asked) for asked in endpoint.requests} == {IN_A_VARIABLE, IN_A_FILE}
                assert SIGN.decode() not in json.dumps(output)
                assert not _processes(runtime["pid"])
                assert SIGN not in await asyncio.to_thread(_page, f"{runtime['http_url']}/metrics")
                limits = Path(f"/proc/{runtime['pid']}/limits").read_text()
                assert re.search(r"Max core file size +0 ", limits)
            node.send_signal(signal.SIGTERM)
            said.append(await node.stderr.read())
            assert SIGN not in b"".join(said)
        finally:
            if node.returncode is None:
                node.kill()
            await node.wait()
    # Events, tables, views, journals, logs: all that is on the disk.
    assert _files(data_dir, b"no such key: (key)")
    assert not _files(data_dir, SIGN)
