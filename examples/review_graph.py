"""A graph for LangGraph as anybody writes it: it knows nothing of l02.

It reads a text, finds what is wrong with it, and asks a person before it says so. Its nodes are deterministic and need
no model's key; one that calls a model would look no different.
"""

from __future__ import annotations

import itertools
import operator
from typing import Annotated, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.types import interrupt


class Review(TypedDict):
    text: str
    long: list[str]
    doubled: list[str]
    verdict: str
    reviewed: Annotated[int, operator.add]
    """Texts so far, in this thread."""


async def long_sentences(state: Review) -> dict[str, list[str]]:
    sentences = [sentence.strip() for sentence in state["text"].split(".")]
    return {"long": [sentence for sentence in sentences if len(sentence.split()) > 12]}


async def doubled_words(state: Review) -> dict[str, list[str]]:
    words = state["text"].lower().split()
    return {"doubled": [word for word, following in itertools.pairwise(words) if word == following]}


async def ask(state: Review) -> dict[str, str | int]:
    if not state["long"] and not state["doubled"]:
        return {"verdict": "nothing found", "reviewed": 1}
    answer = interrupt("Shall I send what I have found?")
    return {"verdict": "sent" if answer else "kept back", "reviewed": 1}


builder = (
    StateGraph(Review)
    .add_node("long_sentences", long_sentences)
    .add_node("doubled_words", doubled_words)
    .add_node("ask", ask)
    .add_edge(START, "long_sentences")
    .add_edge(START, "doubled_words")
    .add_edge(["long_sentences", "doubled_words"], "ask")
    .add_edge("ask", END)
)
