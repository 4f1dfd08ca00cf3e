"""An agent that breaks the rule: what it calls depends on what it finds in its workspace."""

from pathlib import Path

from l02.agent import Agent

agent = Agent("fickle")


@agent.on_message
async def handle(ctx, message):
    runs = Path("runs")
    run = len(runs.read_text()) if runs.exists() else 0
    runs.write_text("x" * (run + 1))
    if run:
        await ctx.now()
    else:
        await ctx.random()
    await ctx.sleep(message["seconds"])
    return run
