"""The protocol between a node and an agent's process: what both ends must understand, and nothing else."""
