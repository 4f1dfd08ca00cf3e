"""For LangGraph users: checkpoints of graphs where the state manager keeps its own. Needs the extra `langgraph`."""

from l02.langgraph.saver import L02Saver

__all__ = ["L02Saver"]
