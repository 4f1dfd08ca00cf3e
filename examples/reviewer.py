"""Runs a LangGraph graph as an agent, as it is: `review_graph.py` knows nothing of l02.

    l02 exec reviewer '{"text": "This is is a text."}'
    l02 signal reviewer review true

The graph runs in the agent's sandbox, where there is no database to keep its checkpoints in, so its checkpointer keeps
them in `ctx.state`: they are durable, restored and forked with the agent. Where the graph interrupts itself to ask a
person, the agent waits for a signal; the wait is recorded and outlives every process. Needs the extra `langgraph` where
the node is installed.
"""

from langgraph.types import Command
from review_graph import builder

from l02.agent import Agent
from l02.agent.langgraph import StateSaver

agent = Agent("reviewer")


THREAD = {"configurable": {"thread_id": "reviews"}}


@agent.on_message
async def handle(ctx, message):
    graph = builder.compile(checkpointer=StateSaver(ctx.state))
    result = await graph.ainvoke({"text": message["text"]}, THREAD)
    while asked := result.get("__interrupt__"):
        ctx.emit(f"{asked[0].value}\n")
        answer = await ctx.wait_for_signal("review", timeout=message.get("seconds", 3600))
        result = await graph.ainvoke(Command(resume=bool(answer)), THREAD)
    return {key: result[key] for key in ("verdict", "long", "doubled", "reviewed")}
