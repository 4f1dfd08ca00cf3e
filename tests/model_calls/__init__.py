"""Agents that ask models, on a real node, of an endpoint that says what a test tells it to."""
