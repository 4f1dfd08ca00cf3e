"""What an execution has taken from the world: on its way to disk, on its way to the agent, told again."""
