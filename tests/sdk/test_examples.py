"""The examples give right answers: on a real repository, through the real MCP server, in the real languages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from mcp import Client, StdioServerParameters
from mcp.types import TextContent

from l02.agent import ToolError
from l02.agent.loader import load
from l02.agent.testing import run
from l02.bus.wire.agent.protocol import Call, Complete, Emit, Execute, Fail, Hello, Recorded, StateChanges, Step, Steps
from l02.client.specification_file import load_specification
from tests.sdk.harness import OWN, command_process, ok

EXAMPLES = Path(__file__).parents[2] / "examples"
SPECIFICATIONS = sorted(EXAMPLES.glob("*.yaml"))


def _git(repository: Path, *arguments: str) -> str:
    command = ["git", "-C", str(repository), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Six commits by two authors, with directories in directories."""
    _git(tmp_path, "init", "--quiet")
    for number, author in enumerate(["Ada", "Bob", "Ada", "Ada", "Bob", "Ada"]):
        file = tmp_path / ["", "docs", "docs/deep", "src"][number % 4] / f"file {number}.txt"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{number}\n")
        _git(tmp_path, "add", ".")
        who = ["-c", f"user.name={author}", "-c", f"user.email={author}@example.org"]
        _git(tmp_path, *who, "commit", "--quiet", "-m", f"Add file {number}\n\nAuthor: Nobody\nCommit: not one")
    return tmp_path


@asynccontextmanager
async def git_tools(repository: Path) -> AsyncIterator[dict[str, Callable[..., Awaitable[str]]]]:
    server = StdioServerParameters(
        command=str(Path(sys.executable).with_name("mcp-server-git")),
        args=["--repository", str(repository)],
        env={"PATH": os.environ["PATH"]},
    )

    async with Client(server) as client:

        def tool(name: str) -> Callable[..., Awaitable[str]]:
            async def call(**arguments: Any) -> str:
                result = await client.call_tool(name, arguments)
                (content,) = result.content
                assert isinstance(content, TextContent)
                if result.is_error:
                    raise ToolError("E2001", "TOOL_INVOCATION_FAILED", content.text)
                return content.text

            return call

        yield {name: tool(name) for name in ("git_log", "git_show")}


async def test_historian(repository: Path) -> None:
    agent = load(str(EXAMPLES / "historian.py"))
    message = {"repository": str(repository), "commits": 4}
    async with git_tools(repository) as tools:
        first = await run(agent, message, tools=tools)
        again = await run(agent, message, tools=tools, state=first.state)
    newest = _git(repository, "log", "-n", "4", "--format=%H %h %an %s").splitlines()
    lines = first.output.splitlines()
    assert lines[0] == "4 commits by 2 authors"
    assert len(lines) == 5
    for line, commit in zip(lines[1:], newest, strict=True):
        sha, _, author, subject = commit.split(" ", 3)
        assert sha[:10] in line
        assert f" {author}: {subject} [3 words] (new to me)" in line
    assert "".join(first.emitted) == first.output
    assert first.state == {"told": [line.split()[0] for line in newest]}
    assert "new to me" not in again.output


async def test_auditor_agrees_with_git(repository: Path) -> None:
    async with git_tools(repository) as tools:
        outcome = await run(load(str(EXAMPLES / "auditor.py")), {"repository": str(repository)}, tools=tools)
    output = outcome.output
    authors = Counter(_git(repository, "log", "-n", "8", "--format=%an").split())
    files = _git(repository, "ls-tree", "-r", "--name-only", "-z", "HEAD").split("\0")[:-1]
    assert output["head"] == _git(repository, "rev-parse", "HEAD").strip()
    assert (output["commits"], output["authors"], output["agree"]) == (6, dict(authors), True)
    assert (output["files"], output["directories"]) == (len(files), 4)
    assert output["seconds"] == 1
    assert outcome.state == {"audits": 1}
    in_a_row = [call for call in outcome.calls if call.tool == "git_show"]
    assert len(in_a_row) == 4
    assert len(outcome.calls) == 1 + 1 + 1 + 6 + 1 + 1 + 4 + 1


async def test_auditor_notices_a_log_that_was_cut_short(repository: Path) -> None:
    async with git_tools(repository) as tools:
        whole = tools["git_log"]

        async def cut(repo_path: str, max_count: int) -> str:
            return await whole(repo_path=repo_path, max_count=min(max_count, 2))

        async def changing(repo_path: str, max_count: int) -> str:
            return (
                await whole(repo_path=repo_path, max_count=max_count)
                if max_count == 8
                else await cut(repo_path, max_count)
            )

        outcome = await run(
            load(str(EXAMPLES / "auditor.py")), {"repository": str(repository)}, tools={**tools, "git_log": changing}
        )
    assert outcome.output["agree"] is False


DOCUMENT = """# Title
one two
## Install
three
```
# not a heading
```
### On Linux
four five
## Use
six
"""


async def test_reader(tmp_path: Path) -> None:
    agent = load(str(EXAMPLES / "reader.py"))
    document = tmp_path / "document.md"
    document.write_text(DOCUMENT)
    ask = {"document": str(document), "heading": "install"}
    outcome = await run(agent, ask)
    assert outcome.output == {
        "headings": 4,
        "longest": "Install",
        "words": 9,
        "answer": "9 words under 'install'",
    }
    missing = await run(agent, {**ask, "heading": "Nothing"})
    assert "no heading 'Nothing'; there are: Title, Install, On Linux, Use" in missing.output["answer"]


async def test_approver() -> None:
    agent = load(str(EXAMPLES / "approver.py"))
    ask = {"action": "leave"}
    yes = await run(agent, ask, signals={"approve": {"by": "ada", "approved": True}})
    assert yes.output == {"action": "leave", "done": True, "by": "ada"}
    assert yes.state["approved"][0]["by"] == "ada"
    plain = await run(agent, ask, signals={"approve": True})
    assert plain.output == {"action": "leave", "done": True, "by": "somebody"}
    no = await run(agent, ask, signals={"approve": {"by": "bob", "approved": False}})
    assert (no.output["done"], no.output["why"]) == (False, "refused by bob")
    late = await run(agent, ask)
    assert (late.output["done"], late.output["why"]) == (False, "nobody answered in time")


def test_there_are_specifications() -> None:
    names = [
        "approver",
        "assistant",
        "auditor",
        "counter",
        "echo",
        "historian",
        "poet",
        "reader",
        "researcher",
        "reviewer",
    ]
    assert [file.stem for file in SPECIFICATIONS] == names


@pytest.mark.parametrize("file", SPECIFICATIONS, ids=lambda file: file.stem)
def test_specifications_name_what_is_there(file: Path) -> None:
    if file.stem in ("reviewer", "researcher"):
        pytest.importorskip("langgraph", reason="needs the extra `langgraph`")
    specification = load_specification(file)
    assert specification.name == file.stem
    if specification.entrypoint is not None:
        assert load(specification.entrypoint).name == file.stem
    elif not specification.model:
        assert specification.command is not None
        assert specification.command[-1] in specification.files.read
    for path in specification.files.read:
        assert Path(path).exists()


async def test_echo_in_bash() -> None:
    async with command_process(["bash", "echo.sh"], EXAMPLES) as process:
        assert await process.expect(Hello) == Hello(1, "echo", [])
        for number, value in enumerate([{"a": [1, 'b"\\', None]}, "two\nlines é", ',"state":{}}', 3, {}]):
            process.execute(value, execution_id=f"x{number}")
            assert await process.expect(Complete) == Complete(f"x{number}", value)
        assert await process.shut_down() == (0, "", "")


@pytest.mark.skipif(shutil.which("node") is None, reason="Node is not installed")
async def test_counter_in_node() -> None:
    async with command_process(["node", "counter.mjs"], EXAMPLES) as process:
        assert await process.expect(Hello) == Hello(1, "counter", [], records_steps=True)
        process.send(Execute("x1", "to be or not to be", {"count": 4, "words": {"be": 1}}))
        call = await process.expect(Call)
        assert call == Call("x1", 1, "now")
        process.send(ok(call, 1_767_225_600))
        assert await process.expect(Emit) == Emit("x1", 0, "execution 5\n")
        words = {"be": 3, "to": 2, "or": 1, "not": 1}
        output = {"count": 5, "words": words, "at": "2026-01-01T00:00:00.000Z"}
        assert await process.expect(Complete) == Complete("x1", output, StateChanges({"count": 5, "words": words}, []))
        process.send(Execute("x2", 3, {}))
        assert "must be a text" in (await process.expect(Fail)).message
        process.send(Execute("x3", "a", {}))
        failure = (await process.expect(Call)).call
        process.writer.write(
            b'{"type":"answer","execution_id":"x3","call":%d,"ok":false,'
            b'"error":{"code":"E2002","name":"TOOL_TIMEOUT","message":"late"}}\n' % failure
        )
        assert await process.expect(Fail) == Fail("x3", "Error: late", "E2002")
        process.execute("a", execution_id="x4", own=OWN)
        (now,) = (await process.expect(Steps)).steps
        assert now == Step(1, "now", 0, result=now.result)
        await process.expect(Emit)
        took = (await process.expect(Complete)).output["at"]
        assert datetime.fromisoformat(took).timestamp() == pytest.approx(now.result, abs=0.001)
        again = msgspec.structs.replace(now, result=1_767_225_600)
        process.execute("a", execution_id="x5", own=msgspec.structs.replace(OWN, recorded=1))
        process.send(Recorded("x5", [again]))
        await process.expect(Emit)
        assert (await process.expect(Complete)).output["at"] == "2026-01-01T00:00:00.000Z"
        assert await process.shut_down() == (0, "", "")
