"""`llm-comply`, which others have written to judge endpoints, judges the scripted one in all three shapes."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.models.endpoint import Answer, Asked, Refuse, ScriptedEndpoint
from tests.models.shapes import Call, Say

pytestmark = pytest.mark.conformance
VERSION = "0.5.0"
FORMATS: dict[str, tuple[str, ...]] = {
    "openai-chat": (),
    "open-responses": (),
    "anthropic": ("--auth-header", "x-api-key", "--no-bearer", "-H", "anthropic-version:2023-06-01"),
}
# What it finds wrong, and why that is right here. Nothing.
EXPECTED_FAILURES: dict[str, str] = {}


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, in an environment of its own."""
    environment = tmp_path_factory.mktemp("judge")
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    python = environment / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "-q", f"llm-comply=={VERSION}"], check=True, timeout=100)
    return environment / "bin" / "llm-comply"


def _answer(asked: Asked) -> Answer:
    if asked.path.endswith("/compact"):
        return Refuse(404, "this endpoint compacts nothing")
    if not asked.body.get("model") or (asked.shape == "anthropic" and not asked.body.get("max_tokens")):
        return Refuse(400, "a model is missing")
    if tools := asked.body.get("tools"):
        name = tools[0].get("name") or tools[0]["function"]["name"]
        return Say(calls=[Call(name, '{"location": "Paris"}')])
    return Say("Hello there")


@pytest.mark.parametrize("form", FORMATS)
async def test_it_is_a_true_endpoint(endpoint: ScriptedEndpoint, judge: Path, form: str) -> None:
    endpoint.script = _answer
    command = [
        str(judge),
        "--format",
        form,
        "-u",
        endpoint.url,
        "-k",
        "any",
        "-m",
        "scripted-1",
        "--json",
        *FORMATS[form],
    ]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    results = json.loads(said)["results"]
    judged = {one["id"]: one.get("errors", []) for one in results if one["status"] != "skipped"}
    assert len(judged) >= 7
    assert {name: errors for name, errors in judged.items() if errors and name not in EXPECTED_FAILURES} == {}
