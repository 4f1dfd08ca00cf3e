"""Calling tools for agents, and checking what they are given."""
