"""OpenAI's and LangChain's clients, unmodified, in a sandbox without network: what they ask is the same effect."""

from __future__ import annotations

import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from l02.agent.openai_shapes import SHAPES, Unsupported
from l02.client.client import Client
from l02.domain.agent.work.models import ModelCalled
from tests.model_calls.conftest import AGENTS, Listen, Spawn, model_events
from tests.models.endpoint import Answer, Asked, ScriptedEndpoint
from tests.models.shapes import Call as Wanted
from tests.models.shapes import Say

EXAMPLES = Path(__file__).parents[2] / "examples"


def clients(spawn: Spawn) -> Any:
    return spawn(entrypoint=str(AGENTS / "clients.py"), models=["small"])


def script(asked: Asked) -> Answer:
    """Numbers are answered with one, and who has tools calls one, until it has been told what came of that."""
    if asked.body["messages"][-1]["role"] == "tool":
        return Say("so it is 4")
    if asked.body.get("tools"):
        return Say(calls=[Wanted("count", '{"n": 1}', id="c1")])
    return Say('{"n": 4}' if asked.body.get("response_format") else "four of them", usage=(10, 5))


ASKED = {
    "chat": ["four of them", 15, "stop"],
    "chat stream": ["four of them", 15],
    "chat tools": ["c1", "count", '{"n": 1}', "tool_calls"],
    "chat parse": 4,
    "responses": ["four of them", 15, "completed"],
    "responses stream": ["four of them", "four of them"],
    "responses tools": ["count", "so it is 4"],
    "responses parse": 4,
    "langchain": ["four of them", 4],
    "refused": [403, "E2114"],
    "elsewhere": 404,
}


async def test_what_a_client_asks_also_after_a_crash(client: Client, spawn: Spawn, endpoint: ScriptedEndpoint) -> None:
    endpoint.script = script
    agent_id = await clients(spawn)
    output = (await client.execute(agent_id, [*ASKED, "die once"])).output
    assert dict(zip(ASKED, output, strict=False)) == ASKED
    called = [event for event in await model_events(client, agent_id) if isinstance(event, ModelCalled)]
    assert len([event for event in called if event.ok]) == len(endpoint.requests) == 11, "nothing is asked again"


async def test_what_the_client_says_goes_to_the_endpoint(
    client: Client, spawn: Spawn, endpoint: ScriptedEndpoint
) -> None:
    endpoint.script = script
    agent_id = await clients(spawn)
    await client.execute(agent_id, ["chat", "responses"])
    chat, response = (asked.body for asked in endpoint.requests)
    assert (chat["temperature"], chat["max_tokens"], chat["seed"]) == (0.5, 9, 7)
    assert chat["model"] == "any", "the alias is the node's to understand"
    assert response["messages"] == [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "how many?"},
    ]


async def test_text_is_said_by_the_node_if_that_is_wanted(
    client: Client, spawn: Spawn, endpoint: ScriptedEndpoint, listen: Listen
) -> None:
    endpoint.say(Say("one two"))
    agent_id = await clients(spawn)
    heard = await listen(agent_id)
    await client.execute(agent_id, ["say", "chat stream"])
    await heard.until(lambda message: "done" in message)
    assert heard.texts() == ["one", " two"]


async def test_the_example_with_openais_client(client: Client, endpoint: ScriptedEndpoint) -> None:
    endpoint.say(Say("waves on waves"), Say("too wet"))
    agent_id = (await client.spawn(EXAMPLES / "poet.yaml", id=f"poet-{uuid.uuid4().hex[:8]}")).agent_id
    assert (await client.execute(agent_id, "the sea")).output == "waves on waves\ntoo wet"
    await client.terminate(agent_id)


async def test_the_example_with_a_graph(client: Client, endpoint: ScriptedEndpoint) -> None:
    endpoint.say(
        Say(calls=[Wanted("count_words", '{"text": "to be or not to be"}')]),
        Say("It has 6 words."),
        Say("Yes."),
    )
    agent_id = (await client.spawn(EXAMPLES / "researcher.yaml", id=f"researcher-{uuid.uuid4().hex[:8]}")).agent_id
    assert (await client.execute(agent_id, "How many words?")).output == "It has 6 words."
    assert endpoint.requests[1].body["messages"][-1]["content"] == "6"
    assert (await client.execute(agent_id, "Sure?")).output == "Yes."
    assert len(endpoint.requests[2].body["messages"]) == 5, "the graph remembers the conversation"
    await client.terminate(agent_id)


WORDS = ["message", "text", "function", "function_call", "json_schema", "x"]
KEYS = ["type", "role", "content", "name", "input", "tools", "schema", "format", "text", "json_schema", "effort"]
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-9, 9)
    | st.sampled_from(["message", "text", "function", "json_schema", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "type",
                    "role",
                    "content",
                    "name",
                    "input",
                    "tools",
                    "schema",
                    "format",
                    "text",
                    "json_schema",
                    "effort",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
bodies = st.dictionaries(
    st.sampled_from(["model", "messages", "input", "tools", "tool_choice", "text", "response_format", "reasoning"]),
    json_values,
)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@given(body=bodies)
def test_any_body_is_read_or_refused(shape: Any, body: dict[str, Any]) -> None:
    try:
        asked = shape.asked(body)
    except (Unsupported, KeyError, TypeError, ValueError, AttributeError):
        return
    msgspec.json.encode(asked)


def test_the_sdk_alone_imports_no_http_library() -> None:
    code = "import sys, l02.agent; print(sorted(name for name in sys.modules if name.startswith(('httpx', 'openai'))))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "[]"
