"""Does nothing without a person's word.

    l02 exec approver '{"action": "delete the old backups", "seconds": 3600}'
    l02 signal approver approve '{"by": "ada", "approved": true}'      # or just: l02 signal approver approve

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
    answer = word if isinstance(word, dict) else {"approved": word is True}  # a signal without a payload is true
    by = answer.get("by", "somebody")
    if not answer.get("approved"):
        return {"action": action, "done": False, "why": f"refused by {by}"}
    ctx.state.setdefault("approved", []).append({"action": action, "by": by, "at": str(await ctx.now())})
    return {"action": action, "done": True, "by": by}
