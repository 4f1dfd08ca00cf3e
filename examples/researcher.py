"""A LangGraph graph whose node asks a model with LangChain's ChatOpenAI, in an agent's sandbox.

    l02 exec researcher "How many words has 'to be or not to be'?"

`research_graph.py` knows nothing of l02: it is given a chat model. Here that is a `ChatOpenAI` whose requests are
`ctx.model`, on record and held to the budget; the graph's checkpoints are in `ctx.state`. Needs the extra `langgraph`
and `pip install langchain-openai` where the node is installed.
"""

from langchain_openai import ChatOpenAI
from research_graph import graph_with

from l02.agent import Agent
from l02.agent.langgraph import StateSaver
from l02.agent.openai import http_client

agent = Agent("researcher")


@agent.on_message
async def handle(ctx, message):
    model = ChatOpenAI(model="small", http_async_client=http_client(ctx), api_key="none")
    graph = graph_with(model).compile(checkpointer=StateSaver(ctx.state))
    result = await graph.ainvoke({"messages": [("user", message)]}, {"configurable": {"thread_id": "questions"}})
    return result["messages"][-1].content
