"""Work of mixed effects, given to agents again and again, and what must be true of each piece in the end."""

from __future__ import annotations

import asyncio
import random
import sys
from collections import Counter
from contextlib import aclosing, suppress
from typing import Any

from msgspec import Struct

from l02.bus.background.cancelling import end
from l02.client.client import Client
from l02.client.discovery import NodeUnreachable
from l02.domain.agent.work.executions import ExecutionCompleted, ExecutionFailed
from l02.domain.agent.work.signals import SignalReceived
from l02.domain.errors import ErrorCode, Failure
from tests.effects import effects
from tests.nodes.conftest import LEDGER, Cluster
from tests.runtime.conftest import AGENTS as WORKERS

MIXED = str(WORKERS / "mixed.py")
AGENTS = [f"a{number}" for number in range(4)]
_STEPS: list[list[Any]] = [
    *(["draw"], ["draw"], ["draw slowly", 0.02], ["now"], ["random"], ["thread"], ["sleep", 0.02], ["signal"]),
    *(["checkpoint"], ["note"], ["note"], ["look"], ["say"], ["say"], ["gather", 0.01]),
]


class Piece(Struct):
    """One piece of work: what its subscriber has seen of its text, and its output, None if it was held."""

    agent_id: str
    name: str
    seen: list[str] = []
    output: Any = None


class MixedWork:
    """All of it. The same seed gives the same plans."""

    def __init__(self, client: Client, cluster: Cluster, seed: int) -> None:
        self._client = client
        self._cluster = cluster
        self._seed = seed
        self.is_over = asyncio.Event()
        self.pieces: list[Piece] = []

    @property
    def held(self) -> int:
        """How many wait for a person."""
        return sum(piece.output is None for piece in self.pieces)

    async def run(self) -> None:
        """Work with all agents until `is_over`."""
        async with asyncio.TaskGroup() as tasks:
            for agent_id in AGENTS:
                tasks.create_task(self._work_with(agent_id))

    def _specification(self) -> dict[str, Any]:
        server = {
            "command": [sys.executable, str(LEDGER), str(self._cluster.ledger)],
            "read": [str(LEDGER)],
            "write": [str(self._cluster.ledger.parent)],
            "idempotent": ["look"],
        }
        return {
            "name": "mixed",
            "entrypoint": MIXED,
            "tools": {"ledger": server},
            "lifecycle": {"restart_delay_seconds": [0.05], "max_restart_count": 1000},
        }

    async def _work_with(self, agent_id: str) -> None:
        chance = random.Random(f"{self._seed} {agent_id}")
        await self._client.spawn(self._specification(), id=agent_id, command_id=f"{agent_id}-spawn")
        number = 0
        while not self.is_over.is_set():
            number += 1
            steps = [chance.choice(_STEPS) for _ in range(chance.randint(5, 25))]
            await self._execute(Piece(agent_id, f"{agent_id}-{number}"), [*steps, ["note"], ["say"]])

    async def _execute(self, piece: Piece, steps: list[list[Any]]) -> None:
        for number in range(steps.count(["signal"])):
            name = f"{piece.name}-signal-{number}"
            await self._until_reached(
                lambda name=name: self._client.signal(piece.agent_id, "go", name, command_id=name)
            )
        watching = asyncio.create_task(self._watch(piece))
        try:
            work = {"name": piece.name, "steps": steps}
            result = await self._until_reached(
                lambda: self._client.execute(piece.agent_id, work, command_id=piece.name)
            )
            piece.output = result.output
        except Failure as failure:
            assert failure.code is ErrorCode.TOOL_INVOCATION_FAILED, failure
            assert "not declared idempotent" in failure.message, failure
        finally:
            await end(watching)
        self.pieces.append(piece)

    async def _until_reached(self, ask: Any) -> Any:
        while True:
            with suppress(NodeUnreachable):
                return await ask()

    async def _watch(self, piece: Piece) -> None:
        with suppress(Failure):  # pieces are kept in memory only: what a server forgets nobody sees
            async with aclosing(self._client.tokens(piece.agent_id, piece.name)) as tokens:
                async for delta in tokens:
                    piece.seen.append(delta)

    async def require_all_as_recorded(self) -> None:
        """Each effect is on record as the agent had it, and in the ledger as often as it may be."""
        noted = Counter(self._cluster.noted())
        for agent_id in AGENTS:
            events = [recorded.event async for recorded in self._client.events(agent_id)]
            held = {event.execution_id for event in events if isinstance(event, ExecutionFailed) and event.held}
            completed = {event.execution_id for event in events if isinstance(event, ExecutionCompleted)}
            taken = Counter(entry.result["payload"] for entry in effects(events, "signal"))
            sent = Counter(event.payload for event in events if isinstance(event, SignalReceived))
            assert max(sent.values(), default=1) == 1 and taken <= sent, "a signal was taken twice"
            for piece in (piece for piece in self.pieces if piece.agent_id == agent_id):
                assert piece.name in (held if piece.output is None else completed)
                own = [event for event in events if getattr(event, "execution_id", None) == piece.name]
                self._require_as_recorded(piece, own, noted)
        assert not noted, "something was noted that nobody had asked for"

    def _require_as_recorded(self, piece: Piece, events: list[Any], noted: Counter[str]) -> None:
        entries = effects(events)
        assert len({entry.place for entry in entries}) == len(entries), "an answer is on record twice"
        tools = [entry for entry in entries if entry.kind == "tool"]
        left = {
            entry.request["arguments"]["text"]: entry.request["tool"]
            for entry in tools
            if "text" in entry.request["arguments"]
        }
        here = {text: times for text, times in noted.items() if text.startswith(f"{piece.name} ")}
        if piece.output is None:
            open_notes = {event.arguments["text"] for event in events if event.type == "agent.tool.requested"}
            left |= dict.fromkeys(open_notes, "note")
        for text, times in here.items():
            del noted[text]
            # A look that was cut off may not be on record, since it may be made again.
            assert left.get(text) != "note" or times == 1, f"{text} was noted {times} times"
            assert text in left or piece.output is None, f"{text} left, and is not on record"
        if piece.output is None:
            return
        output = piece.output
        assert [text for text in output["noted"] if text not in here] == [], "noted by the record alone"
        assert {*left} == {*output["noted"]} and {*here} == {*left}
        known = {str(_as_had(entry)) for entry in entries if entry.kind in ("tool", "random", "signal")}
        assert known <= {*output["results"]}, "the agent has had another result than is on record"
        assert output["text"].startswith("".join(piece.seen)), "said, and then something else"


def _as_had(entry: Any) -> Any:
    if entry.kind == "signal":
        return entry.result["payload"]
    return entry.result
