"""What an author writes, and what they are told when it is wrong."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema
import msgspec
import pytest

from l02.agent import Agent, Context
from l02.agent.loader import LoadError, load
from l02.bus.wire.agent.protocol import Hello, LoadFailed
from tests.sdk.harness import agent_process

ROOT = Path(__file__).parents[2]


@dataclass
class Range:
    first: int
    last: int | None = None


def test_a_schema_is_made_of_the_types() -> None:
    agent = Agent("a")

    @agent.tool(name="cut-out", description="Cuts.", idempotent=True)
    def cut(
        text: Annotated[str, msgspec.Meta(description="What to cut")],
        parts: list[Range],
        mode: Literal["keep", "drop"] = "keep",
        *,
        marks: list[str] = ["-"],  # noqa: B006  passed on as Python would
        extra: dict[str, Any] | None = None,
    ) -> str:
        return text

    (tool,) = agent.descriptions()
    assert (tool.name, tool.description, tool.idempotent) == ("cut-out", "Cuts.", True)
    jsonschema.Draft202012Validator.check_schema(tool.schema)
    assert tool.schema["type"] == "object"
    assert tool.schema["required"] == ["text", "parts"]
    assert tool.schema["additionalProperties"] is False
    assert tool.schema["properties"]["text"] == {"type": "string", "description": "What to cut"}
    validator = jsonschema.Draft202012Validator(tool.schema)
    good = {"text": "t", "parts": [{"first": 1}], "mode": "drop"}
    assert validator.is_valid(good)
    assert not validator.is_valid({**good, "mode": "burn"})
    assert agent.tools["cut-out"].convert(good) == {
        "text": "t",
        "parts": [Range(1)],
        "mode": "drop",
        "marks": ["-"],
        "extra": None,
    }
    with pytest.raises(ValueError, match=r"tool 'cut-out' do not fit: .*\$\.parts\[0\]\.first"):
        agent.tools["cut-out"].convert({"text": "t", "parts": [{"first": "1"}]})


def test_a_tool_stays_the_function_it_was() -> None:
    agent = Agent("a")

    @agent.tool
    def double(n: int) -> int:
        """Twice."""
        return 2 * n

    assert double(2) == 4
    assert agent.descriptions()[0].description == "Twice."


def test_tools_of_which_no_schema_can_be_made_are_refused() -> None:
    agent = Agent("a")

    def untyped(text) -> None: ...  # type: ignore[no-untyped-def]
    def many(*texts: str) -> None: ...
    def keywords(**texts: str) -> None: ...
    def positional(text: str, /) -> None: ...
    def foreign(path: Agent) -> None: ...
    def unknown(path: Nowhere) -> None: ...  # type: ignore[name-defined]  # noqa: F821
    def generator(n: int) -> Any:
        yield n

    for function, text in (
        (untyped, "say the type of untyped's argument: `text: str`"),
        (many, r"takes \*texts: 'str'; its arguments must each have a name"),
        (keywords, r"takes \*\*texts"),
        (positional, "must each have a name"),
        (foreign, "no JSON Schema can be made of the types of the tool foreign"),
        (unknown, "the types of the tool unknown are not known here"),
        (generator, "is a generator"),
        (print, "a tool is a function"),
    ):
        with pytest.raises(TypeError, match=text):
            agent.tool(function)
    with pytest.raises(ValueError, match="a tool's name is"):
        agent.tool(name="two words")(lambda: None)
    agent.tool(name="once")(lambda: None)
    with pytest.raises(ValueError, match="a has a tool named once already"):
        agent.tool(name="once")(lambda: None)
    assert list(agent.tools) == ["once"]


def test_a_handler_is_one_async_function_of_two_arguments() -> None:
    agent = Agent("a")

    def plain(ctx: Context, message: Any) -> None: ...
    async def short(ctx: Context) -> None: ...
    async def good(ctx: Context, message: Any) -> None: ...

    with pytest.raises(TypeError, match=r"takes an async function: write `async def handle\(ctx, message\)"):
        agent.on_message(plain)  # type: ignore[type-var]
    with pytest.raises(TypeError, match="two arguments"):
        agent.on_message(short)  # type: ignore[type-var]
    agent.on_message(good)
    with pytest.raises(TypeError, match="a has a handler already"):
        agent.on_message(good)
    with pytest.raises(ValueError, match="needs a name"):
        Agent("")


HANDLER = "@agent.on_message\nasync def handle(ctx, message): return 'loaded'\n"
AGENT = "from l02.agent import Agent\nagent = Agent('a')\n" + HANDLER
BROKEN = {
    "missing": (None, "there is no file {file}"),
    "syntax": ("def (:\n", "{file}, line 1: invalid syntax"),
    "null byte": ("a = '\0'\n", "null bytes"),
    "encoding": ("# coding: nothing\n", "unknown encoding"),
    "import": (
        "import os\nimport nowhere_to_be_found\n",
        "{file}, line 2: No module named 'nowhere_to_be_found'; an agent has Python's standard library, msgspec",
    ),
    "forbidden": (
        "raise PermissionError(13, 'Permission denied', '/srv/helper.py')\n",
        "PermissionError: [Errno 13] Permission denied: '/srv/helper.py'; `files.read` of its specification names what",
    ),
    "raises": ("def f():\n    raise KeyError('k')\nf()\n", "{file}, line 2: KeyError: 'k'"),
    "exits": ("import sys\nsys.exit(3)\n", "{file}, line 2: SystemExit: 3"),
    "none": ("from l02.agent import Agent\n", "{file} holds no Agent; write `agent = Agent('name')`"),
    "several": (
        AGENT + "other = Agent('b')\n",
        "holds several Agents (agent, other); keep one, or say which: `module:object`",
    ),
    "mute": ("from l02.agent import Agent\nagent = Agent('a')\n", "the agent 'a' has no handler; write `@agent.on"),
    "sync": (
        "from l02.agent import Agent\nagent = Agent('a')\n@agent.on_message\ndef handle(ctx, message): ...\n",
        "line 3: TypeError: on_message takes an async function",
    ),
}


@pytest.mark.parametrize("case", BROKEN)
async def test_a_file_that_cannot_be_loaded_is_reported_and_the_process_ends(case: str, tmp_path: Path) -> None:
    source, text = BROKEN[case]
    file = tmp_path / "author.py"
    if source is not None:
        file.write_text(source)
    async with agent_process({"entrypoint": str(file)}, tmp_path) as process:
        failed = await process.expect(LoadFailed)
        assert text.format(file=file) in failed.message
        assert (await process.exit())[0] == 1


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="cannot be read: Is a directory"):
        (tmp_path / "dir.py").mkdir()
        load(str(tmp_path / "dir.py"))


@pytest.mark.parametrize("entrypoint", ["{dir}/agents/calendar.py", "beside", "beside:second"])
async def test_entrypoints(entrypoint: str, tmp_path: Path) -> None:
    agents = tmp_path / "agents"
    agents.mkdir()
    (agents / "calendar.py").write_text("import helper, http.cookiejar\nhelper.check()\n" + AGENT)
    (agents / "helper.py").write_text("import calendar\ndef check(): calendar.timegm\n")
    (tmp_path / "beside.py").write_text(AGENT + ("second = agent\n"))
    async with agent_process({"entrypoint": entrypoint.format(dir=tmp_path)}, tmp_path) as process:
        assert (await process.expect(Hello)).name == "a"
        assert "loaded" in str(await process.run())
    assert not list(tmp_path.rglob("__pycache__/calendar*"))


async def test_one_of_several_agents_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "two.py").write_text(AGENT + "other = Agent('b')\n" + HANDLER.replace("agent", "other"))
    config = {"entrypoint": str(tmp_path / "two.py"), "object": "other"}
    async with agent_process(config, tmp_path) as process:
        assert (await process.expect(Hello)).name == "b"
    async with agent_process({**config, "object": "handle"}, tmp_path) as process:
        assert "has no Agent named 'handle'" in (await process.expect(LoadFailed)).message


def test_only_the_standard_library_and_msgspec_are_imported() -> None:
    # msgspec imports typing_extensions where it is installed.
    program = """
import sys
before = set(sys.modules)
import threading
import l02.agent, l02.agent.runtime, l02.agent.testing
new = {name.partition(".")[0] for name in set(sys.modules) - before}
print(sorted(new - set(sys.stdlib_module_names) - {"typing_extensions"}), threading.active_count())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "['l02', 'msgspec'] 1\n"


def test_the_face_is_imported_only_when_asked_for() -> None:
    program = "import sys, l02; print('l02.client' in sys.modules, l02.__all__); l02.nothing"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.stdout == "False ['Client']\n"
    assert "module 'l02' has no attribute 'nothing'" in done.stderr


def test_an_author_can_look_at_what_a_file_offers() -> None:
    command = [sys.executable, "-m", "l02.agent", "examples/historian.py"]
    shown = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert shown.startswith("agent historian\n  tool count_words (idempotent): ")
    as_json = subprocess.run([*command, "--json"], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert msgspec.json.decode(as_json)["tools"][0]["name"] == "count_words"
    wrong = subprocess.run([*command[:-1], "none.py"], capture_output=True, text=True, cwd=ROOT, check=False)
    assert (wrong.returncode, wrong.stdout, wrong.stderr) == (1, "", "there is no file none.py\n")
