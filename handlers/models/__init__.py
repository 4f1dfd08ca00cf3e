"""The model bridge: what an agent asks of a model, asked of whichever of its endpoints answers.

It knows no agent, no event and no bus: who asks records, and pays.
"""
