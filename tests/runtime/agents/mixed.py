"""An agent whose work has effects of every kind. All that it says rests on results that come otherwise each time."""

import asyncio
import secrets
from hashlib import sha256

from l02.agent import Agent

agent = Agent("mixed")


@agent.tool(idempotent=True)
def draw(of: str) -> str:
    """Something else whenever it runs."""
    return f"{of}:{secrets.token_hex(4)}"


@agent.tool(idempotent=True)
async def draw_slowly(of: str, seconds: float) -> str:
    """The same, after a while."""
    await asyncio.sleep(seconds)
    return f"{of}:{secrets.token_hex(4)}"


def digest(results: list[object]) -> str:
    """Of all that is known: who says it rests on all of that."""
    return sha256(repr(results).encode()).hexdigest()[:12]


class Work:
    """One piece: what it has learned, and what it has said."""

    def __init__(self, ctx, name):
        self.ctx = ctx
        self.name = name
        self.results = []
        self.noted = []
        self.text = ""

    async def note(self, tool):
        text = f"{self.name} {len(self.noted)} {digest(self.results)}"
        self.noted.append(text)
        self.results.append(await self.ctx.tool(tool, text=text))

    def say(self):
        piece = f"{digest(self.results)} "
        self.ctx.emit(piece)
        self.text += piece

    async def branch(self, awaited):
        """What is done next depends on which branch was the first."""
        self.results.append(str(await awaited))
        self.results.append(await self.ctx.random())

    async def step(self, step):
        ctx = self.ctx
        match step:
            case ["draw"]:
                self.results.append(await ctx.tool("draw", of=digest(self.results)))
            case ["draw slowly", seconds]:
                self.results.append(await ctx.tool("draw_slowly", of=digest(self.results), seconds=seconds))
            case ["now"]:
                self.results.append((await ctx.now()).timestamp())
            case ["random"]:
                self.results.append(await ctx.random())
            case ["thread"]:
                self.results.append(await asyncio.to_thread(digest, self.results))
            case ["sleep", seconds]:
                await ctx.sleep(seconds)
            case ["signal"]:
                self.results.append(await ctx.wait_for_signal("go"))
            case ["checkpoint"]:
                ctx.state["results"] = self.results
                await ctx.checkpoint()
            case ["note" | "look" as tool]:
                await self.note(tool)
            case ["say"]:
                self.say()
            case ["gather", seconds]:
                of = digest(self.results)
                await asyncio.gather(
                    self.branch(ctx.tool("draw_slowly", of=of, seconds=seconds)),
                    self.branch(ctx.tool("draw", of=of)),
                    self.branch(asyncio.to_thread(digest, [of])),
                    self.branch(ctx.random()),
                    self.note("look"),
                    self.branch(ctx.now()),
                )


@agent.on_message
async def handle(ctx, message):
    work = Work(ctx, message["name"])
    for step in message["steps"]:
        await work.step(step)
    return {"noted": work.noted, "text": work.text, "results": [str(result) for result in work.results]}
