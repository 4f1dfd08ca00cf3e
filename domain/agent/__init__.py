"""The agent aggregate: one agent's life, its executions and their journals."""
