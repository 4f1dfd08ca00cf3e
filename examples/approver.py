"""Does nothing without a person's word.

    l02 exec approver '{"action": "delete the old backups", "seconds": 3600}'
    l02 signal approver approve '{"by": "ada", "approved": true}'

The wait costs no process: the agent may be suspended meanwhile, and its node may restart.
"""

from l02.agent import Agent

agent = Agent("approver")


@agent.on_message
async def handle(ctx, message):
    action = message["action"]
    ctx.emit(f"May I {action}?\n")
    word = await ctx.wait_for_signal("approve", timeout=message.get("seconds", 3600))
    if word is None:
        return {"action": action, "done": False, "why": "nobody answered in time"}
    if not word.get("approved"):
        return {"action": action, "done": False, "why": f"refused by {word.get('by', 'somebody')}"}
    ctx.state.setdefault("approved", []).append({"action": action, "by": word.get("by"), "at": str(await ctx.now())})
    return {"action": action, "done": True, "by": word.get("by")}
