"""An agent that does what its message says, so that each test can say what it needs."""

import asyncio
import os
import time
from pathlib import Path

from l02.agent import Agent, ToolError

agent = Agent("worker")
held = []


@agent.tool(idempotent=True)
def add(a: int, b: int) -> int:
    """The sum."""
    return a + b


@agent.tool
def mark(name: str) -> int:
    """Writes a line into the workspace and says how many there are: not to be called twice."""
    with Path("marks").open("a") as file:
        file.write(f"{name}\n")
    return len(Path("marks").read_text().splitlines())


@agent.tool
async def slow_mark(name: str, seconds: float) -> int:
    """Like mark, after a while."""
    await asyncio.sleep(seconds)
    return mark(name)


@agent.tool(idempotent=True)
def failing(text: str) -> None:
    """Always fails."""
    raise ValueError(text)


@agent.tool(idempotent=True)
async def hanging() -> None:
    """Never answers."""
    await asyncio.sleep(3600)


@agent.tool
def blocking(seconds: float) -> str:
    """Lets nothing else run meanwhile."""
    time.sleep(seconds)
    return "done"


@agent.tool(idempotent=True)
def large(size: int) -> str:
    """A text of that many characters."""
    return "x" * size


async def steps(ctx, message):
    results = []
    for step in message["steps"]:
        match step:
            case ["tool", name, arguments]:
                results.append(await ctx.tool(name, **arguments))
            case ["try", name, arguments]:
                try:
                    results.append(await ctx.tool(name, **arguments))
                except ToolError as error:
                    results.append({"code": error.code, "message": error.message})
            case ["content of", name, arguments]:
                try:
                    await ctx.tool(name, **arguments)
                except ToolError as error:
                    results.append(error.content)
            case ["gather", *calls]:
                results.append(await asyncio.gather(*(ctx.tool(name, **arguments) for name, arguments in calls)))
            case ["tools"]:
                offer = await ctx.tools()
                results.append([[tool.name, tool.server or None, tool.schema] for tool in offer.tools])
                results.append(list(offer.problems))
            case ["sleep", seconds]:
                results.append(await ctx.sleep(seconds))
            case ["burn", seconds]:
                enough = time.process_time() + seconds
                while time.process_time() < enough:  # noqa: ASYNC110
                    await asyncio.sleep(0)
            case ["hold", megabytes]:
                held.append(os.urandom(megabytes << 20))
            case ["fill", name, megabytes]:
                Path(name).write_bytes(os.urandom(megabytes << 20))
            case ["empty", name]:
                Path(name).unlink()
            case ["now"]:
                results.append((await ctx.now()).timestamp())
            case ["random"]:
                results.append(await ctx.random())
            case ["signal", name, timeout]:
                results.append(await ctx.wait_for_signal(name, timeout=timeout))
            case ["count"]:
                ctx.state["count"] = ctx.state.get("count", 0) + 1
                results.append(ctx.state["count"])
            case ["emit", text]:
                ctx.emit(text)
            case ["emit pid"]:
                ctx.emit(str(os.getpid()))
            case ["pid"]:
                results.append(os.getpid())  # differs from run to run: only for what is not compared
            case ["block once", seconds]:
                if not Path("blocked").exists():
                    Path("blocked").touch()
                    time.sleep(seconds)  # noqa: ASYNC251
            case ["fail", text]:
                raise RuntimeError(text)
            case ["state", key, value]:
                ctx.state[key] = value
            case ["bytes", key, size]:
                ctx.state[key] = bytes(range(256)) * (size // 256)
            case ["read", key]:
                value = ctx.state.get(key)
                results.append(value.hex() if isinstance(value, bytes) else value)
            case ["try checkpoint"]:
                try:
                    results.append(await ctx.checkpoint())
                except ToolError as error:
                    results.append(error.code)
            case ["checkpoint", label]:
                results.append(await ctx.checkpoint(label))
    return results


@agent.on_message
async def handle(ctx, message):
    if isinstance(message, dict) and "steps" in message:
        return await steps(ctx, message)
    return message
