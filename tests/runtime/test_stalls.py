"""However much an agent says at once, the node's event loop is never held for long: others are served meanwhile."""

from __future__ import annotations

import gc
import json
import time
import uuid
from asyncio.events import Handle
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from domain.errors import ErrorCode, Failure
from domain.weight import MAX_WEIGHT
from l02.client import Client
from tests.runtime.conftest import talker

LONGEST_SECONDS = 0.1
"""Of the loop's own processor time, so that another load on the machine does not count."""

MANY = {
    "empty lists": ("$([]*5000000)", ErrorCode.PAYLOAD_TOO_LARGE),
    "lists, just as many as may be": (f"$([]*{MAX_WEIGHT // 11 - 10})", None),
    "empty objects": ("$({}*5000000)", ErrorCode.PAYLOAD_TOO_LARGE),
    "numbers": ("$(1*7000000)", ErrorCode.PAYLOAD_TOO_LARGE),
    "numbers, just as many as may be": (f"$(1*{MAX_WEIGHT - 100})", None),
    "short texts": ('$("a"*3900000)', ErrorCode.PAYLOAD_TOO_LARGE),
    "keys": ("{$KEYS(1200000)}", ErrorCode.PAYLOAD_TOO_LARGE),
    "keys, just as many as may be": (f"{{$KEYS({MAX_WEIGHT // 5 - 10})}}", None),
    "one long text": ('"' + "$([{:*3700000)" + '"', ErrorCode.PAYLOAD_TOO_LARGE),
    "text that looks like values": ('"' + "$([*400000)" + '"', None),
    "long numbers": ("$(" + "1" * 4000 + "*3700)", ErrorCode.PAYLOAD_TOO_LARGE),
}


@contextmanager
def longest_step(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The processor time of the loop's longest step so far, in seconds."""
    longest = [0.0]
    run = Handle._run

    def timed(handle: Handle) -> None:
        began = time.thread_time()
        run(handle)
        longest[0] = max(longest[0], time.thread_time() - began)

    gc.freeze()  # what the tests hold is not the node's to look through
    try:
        with monkeypatch.context() as patched:
            patched.setattr(Handle, "_run", timed)
            yield longest
    finally:
        gc.unfreeze()


@pytest.mark.parametrize("what", MANY)
async def test_an_output_of_many_values(client: Client, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    values, code = MANY[what]
    large = talker() | {"executor": {"context_window_tokens": 10_000_000}}
    agent_id = (await client.spawn(large, id=uuid.uuid4().hex)).agent_id
    said = json.dumps({"type": "complete", "execution_id": "$ID", "output": ["$VALUES"]})
    took = []
    for _ in range(3):  # what else runs on the machine only adds to it
        with longest_step(monkeypatch) as longest:
            assert await outcome(client, agent_id, said.replace('"$VALUES"', values)) == code
        took += longest
        if took[-1] <= LONGEST_SECONDS:
            return
    raise AssertionError(f"the loop was held for {min(took):.3f} s")


async def outcome(client: Client, agent_id: str, said: str) -> ErrorCode | None:
    try:
        await client.execute(agent_id, [said])
    except Failure as failure:
        return failure.code
    return None
