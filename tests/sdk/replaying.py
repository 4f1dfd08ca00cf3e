"""A node that keeps a journal as a real one does, and an agent that does whatever a random program says."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from msgspec.structs import replace

from l02.bus.wire.agent.protocol import (
    Answer,
    Begin,
    Call,
    Complete,
    Emit,
    Execute,
    Recorded,
    Step,
    Steps,
)
from tests.sdk.harness import OWN, OWN_TOOLS, AgentProcess, ok

_QUIET_SECONDS = 0.003

SOURCE = (
    OWN_TOOLS
    + """
pace = 0

def lasts(n):
    time.sleep(n * pace % 5 / 2000)    # now this is done first, now that
    return n

@agent.tool(idempotent=True)
def own(n: int, seen: list) -> int: return lasts(n)

@agent.tool(idempotent=True)
async def own_async(n: int, seen: list) -> int:
    await asyncio.sleep(n * pace % 5 / 2000)
    return n

class Work:
    # What a branch does depends on all that the others have seen so far, and in which order.
    def __init__(self, ctx): self.ctx, self.seen = ctx, []

    async def run(self, program):
        for n, step in program:
            result = await self.do(n, step)
            self.seen.append([n, result])

    async def do(self, n, step):
        seen = self.seen[-3:] + [len(self.seen)]
        match step:
            case "now": return (await self.ctx.now()).timestamp()
            case "random": return await self.ctx.random()
            case "own" | "own_async" | "there": return await self.ctx.tool(step, n=n, seen=seen)
            case "sleep": await self.ctx.sleep(n)
            case "thread": return await asyncio.to_thread(lasts, n)
            case "turn": await asyncio.sleep(0)
            case "emit": self.ctx.emit(f"{seen}")
            case ["together", programs]: await asyncio.gather(*map(self.run, programs))
            case ["given up", program]:
                task = asyncio.create_task(self.run(program))
                await self.ctx.random()
                task.cancel()

@agent.on_message
async def handle(ctx, message):
    global pace
    pace, program = message
    work = Work(ctx)
    await work.run(program)
    return work.seen
"""
)


def programs() -> st.SearchStrategy[list[Any]]:
    """Steps with numbers of their own."""
    plain = st.sampled_from(["now", "random", "own", "own_async", "there", "sleep", "thread", "turn", "emit"])
    nested = st.recursive(
        st.lists(plain, min_size=1, max_size=5),
        lambda inner: st.lists(
            plain
            | st.tuples(st.just("together"), st.lists(inner, min_size=2, max_size=4))
            | st.tuples(st.just("given up"), inner),
            min_size=1,
            max_size=4,
        ),
        max_leaves=8,
    )
    return nested.map(lambda program: _numbered(program, iter(range(1, 1000))))


def _numbered(program: list[Any], numbers: Any) -> list[Any]:
    found: list[Any] = []
    for step in program:
        number = next(numbers)
        match step:
            case ("together", branches):
                found.append([number, ["together", [_numbered(branch, numbers) for branch in branches]]])
            case ("given up", branch):
                found.append([number, ["given up", _numbered(branch, numbers)]])
            case _:
                found.append([number, step])
    return found


@dataclass
class Journal:
    """What a node has received and given in one run, in its order."""

    entries: list[Step | Answer | Call | Begin] = field(default_factory=list)
    output: Any = None

    def until(self, count: int) -> Journal:
        """What is on record if the node dies then."""
        return Journal(self.entries[:count])

    def steps(self) -> list[Step]:
        return [entry for entry in self.entries if isinstance(entry, Step)]

    def answers(self) -> list[Answer]:
        return [entry for entry in self.entries if isinstance(entry, Answer)]

    def calls(self) -> dict[int, Call]:
        """What the agent has asked for, by number."""
        return {entry.call: replace(entry, execution_id="") for entry in self.entries if isinstance(entry, Call)}

    def own_tools(self) -> dict[int, str]:
        """Those that the agent has begun or done, by number."""
        return {
            entry.call: str(entry.tool)
            for entry in self.entries
            if isinstance(entry, Begin) or (isinstance(entry, Step) and entry.kind == "tool")
        }


async def run(
    process: AgentProcess, execution_id: str, value: Any, seed: int, record: Journal | None = None
) -> Journal:
    """One run, after what is on record; calls that are not are answered in an order that `seed` makes."""
    chance, journal = random.Random(seed), Journal()
    steps, answers = (record.steps(), record.answers()) if record else ([], [])
    own = replace(OWN, recorded=len(steps), answers=len(answers), max_concurrent_tools=3)
    process.send(Execute(execution_id, value, {}, own))
    if steps:
        half = len(steps) // 2
        process.send(*(Recorded(execution_id, part) for part in (steps[:half], steps[half:]) if part))
    if record is not None:
        journal.entries += [entry for entry in record.entries if isinstance(entry, Step | Answer)]
    to_replay = list(answers)
    recorded = {answer.call for answer in answers}
    asked: set[int] = set()
    waiting: list[Call] = []
    while True:
        while to_replay and to_replay[0].call in asked:
            await asyncio.sleep(chance.choice([0, 0, _QUIET_SECONDS]))  # what the agent does itself may be done first
            process.send(replace(to_replay.pop(0), execution_id=execution_id))
        if waiting and not to_replay and chance.random() < 0.5:
            _answer(process, journal, waiting.pop(chance.randrange(len(waiting))))
        try:
            async with asyncio.timeout(_QUIET_SECONDS if waiting and not to_replay else 20):
                message = await process.receive()
        except TimeoutError:
            assert waiting, (journal, to_replay)
            _answer(process, journal, waiting.pop(chance.randrange(len(waiting))))
            continue
        match message:
            case Steps():
                journal.entries += message.steps
            case Begin():
                journal.entries.append(message)
            case Call():
                asked.add(message.call)
                journal.entries.append(message)
                if message.call not in recorded:
                    waiting.append(message)
            case Complete():
                journal.output = message.output
                return journal
            case Emit():
                pass
            case _:
                raise AssertionError(message)


def _answer(process: AgentProcess, journal: Journal, call: Call) -> None:
    answer = ok(call, None if call.kind == "sleep" else call.call)
    journal.entries.append(answer)
    process.send(answer)
