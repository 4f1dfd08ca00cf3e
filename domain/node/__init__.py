"""The node aggregate: a process that runs agents, as the others see it come and go."""
