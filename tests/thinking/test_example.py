"""The example without code, as its file has it: a real git server on a real repository, and a scripted endpoint."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

from l02.client.client import Client
from tests.models.endpoint import Asked, ScriptedEndpoint
from tests.models.shapes import Call, Say
from tests.thinking.test_node import results
from tests.tools.conftest import landlock_only

EXAMPLE = Path(__file__).parents[2] / "examples" / "assistant.yaml"


def git(repository: Path, *arguments: str) -> None:
    who = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    subprocess.run(["git", "-C", str(repository), *who, *arguments], check=True, capture_output=True)


@landlock_only
async def test_it_reads_the_repository_around_it(client: Client, endpoint: ScriptedEndpoint, tmp_path: Path) -> None:
    examples = tmp_path / "examples"
    examples.mkdir()
    shutil.copy(EXAMPLE, examples)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "The first one")
    endpoint.requests.clear()

    def script(asked: Asked) -> Say:
        read = results(asked)
        if not read:
            arguments = json.dumps({"repo_path": str(tmp_path), "max_count": 1})
            return Say("", [Call("git_log", arguments, "c1"), Call("git_commit", arguments, "c2")])
        return Say("Ada wrote it." if "Ada" in read[0] and "The first one" in read[0] else read[0])

    endpoint.script = script
    await client.spawn(examples / "assistant.yaml", id="assistant")
    assert (await client.execute("assistant", f"In {tmp_path}: who wrote the last commit?")).output == "Ada wrote it."
    offered = {tool["function"]["name"] for tool in endpoint.requests[0].body["tools"]}
    assert offered == {"git_log", "git_show", "git_diff", "git_status"}
    assert results(endpoint.requests[1])[1].startswith("error: there is no tool 'git_commit'")
    assert endpoint.requests[0].body["max_tokens"] == 1000
    await client.terminate("assistant")
