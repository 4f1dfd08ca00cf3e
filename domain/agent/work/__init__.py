"""What an agent is asked to do, what it does, and what it waits for."""
