"""A graph as anybody writes it: a chat model that may count words, until it has an answer."""

from __future__ import annotations

from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import ToolMessage
from langchain_core.tools import tool
from langgraph.graph import END, START, MessagesState, StateGraph


@tool
def count_words(text: str) -> int:
    """How many words a text has."""
    return len(text.split())


def graph_with(model: BaseChatModel) -> StateGraph[MessagesState]:
    """The graph, asking this model."""
    asking = model.bind_tools([count_words])

    async def think(state: MessagesState) -> dict[str, Any]:
        return {"messages": [await asking.ainvoke(state["messages"])]}

    async def count(state: MessagesState) -> dict[str, Any]:
        calls = state["messages"][-1].tool_calls
        return {
            "messages": [ToolMessage(str(count_words.invoke(call["args"])), tool_call_id=call["id"]) for call in calls]
        }

    def follows(state: MessagesState) -> str:
        return "count" if state["messages"][-1].tool_calls else END

    return (
        StateGraph(MessagesState)
        .add_node("think", think)
        .add_node("count", count)
        .add_edge(START, "think")
        .add_conditional_edges("think", follows, ["count", END])
        .add_edge("count", "think")
    )
