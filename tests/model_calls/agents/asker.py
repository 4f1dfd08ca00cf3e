"""An agent that asks what its message says, step by step, and gives back what came of each."""

import asyncio
import os
import signal
from pathlib import Path

import msgspec

from l02.agent import Agent, ToolError

agent = Agent("asker")


@agent.tool(idempotent=True)
def large(size: int) -> str:
    """A text of that many characters."""
    return "x" * size


async def asked(ctx, step):
    try:
        answer = await ctx.model(**step)
    except ToolError as error:
        return {"code": error.code, "message": error.message}
    return msgspec.to_builtins(answer)


async def grow(ctx, rounds, size):
    """A conversation that grows."""
    messages = [{"role": "system", "content": "count"}]
    for number in range(rounds):
        messages.append({"role": "user", "content": f"{number} " + "x" * size})
        answer = await ctx.model(messages, "small")
        messages.append({"role": "assistant", "content": answer.text})
    return len(messages)


@agent.on_message
async def handle(ctx, message):
    results = []
    for step in message:
        match step:
            case ["ask", request]:
                results.append(await asked(ctx, request))
            case ["ask pid"]:
                results.append(await asked(ctx, {"messages": f"{os.getpid()}", "model": "small"}))
            case ["ask deep", depth]:
                value = []
                for _ in range(depth):
                    value = [value]
                said = {"role": "user", "content": "x", "deep": value}
                results.append(await asked(ctx, {"messages": [said], "model": "small"}))
            case ["gather", *requests]:
                results.append(await asyncio.gather(*(asked(ctx, request) for request in requests)))
            case ["leave", request]:
                ctx.left = asyncio.create_task(asked(ctx, request))
                await asyncio.sleep(0)
            case ["join"]:
                await ctx.left
            case ["emit", text]:
                ctx.emit(text)
            case ["wait", name]:
                results.append(await ctx.wait_for_signal(name))
            case ["die once"]:
                await ctx.tool("large", size=1)
                if not Path("died").exists():
                    Path("died").touch()
                    os.kill(os.getpid(), signal.SIGKILL)
            case ["grow", rounds, size]:
                results.append(await grow(ctx, rounds, size))
    return results
