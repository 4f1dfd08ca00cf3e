"""Every example runs on a node as it is, alone: what its specification names is all that it has."""

from __future__ import annotations

import asyncio
import importlib.util
import shutil
import uuid
from pathlib import Path
from typing import Any

import pytest

from l02.client.client import Client

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
REPOSITORY = {"repository": str(ROOT), "commits": 3}
WORK: dict[str, tuple[Any, str]] = {
    "approver": ({"action": "leave"}, "True"),
    "auditor": (REPOSITORY, "commits"),
    "counter": ("to be or not to be", "be"),
    "echo": ({"a": [1]}, "{'a': [1]}"),
    "historian": (REPOSITORY, "commits"),
    "reader": ({"document": str(ROOT / "README.md"), "heading": "Limits"}, "words under 'Limits'"),
    "reviewer": ({"text": "This is is a text."}, "sent"),
}
SIGNALS = {"approver": "approve", "reviewer": "review"}
NEEDS = {"counter": shutil.which("node"), "reviewer": importlib.util.find_spec("langgraph")}
"""What a machine may lack: a Node.js for the agent in JavaScript, the extra `langgraph`."""


def test_each_is_run() -> None:
    elsewhere = {"assistant", "poet", "researcher"}  # they need a model: tests/thinking, tests/model_calls
    assert {file.stem for file in EXAMPLES.glob("*.yaml")} == {*WORK} | elsewhere


@pytest.mark.parametrize("name", WORK)
async def test_an_example(client: Client, name: str) -> None:
    if name in NEEDS and not NEEDS[name]:
        pytest.skip(f"{name} needs what is not on this machine")
    message, expected = WORK[name]
    if message is REPOSITORY and not (ROOT / ".git").is_dir():
        pytest.skip("needs a git clone, not a worktree")
    agent_id = (await client.spawn(EXAMPLES / f"{name}.yaml", id=f"{name}-{uuid.uuid4().hex[:8]}")).agent_id
    execution = asyncio.create_task(client.execute(agent_id, message))
    if name in SIGNALS:
        await client.signal(agent_id, SIGNALS[name])
    assert expected in str((await execution).output)
    await client.terminate(agent_id)
