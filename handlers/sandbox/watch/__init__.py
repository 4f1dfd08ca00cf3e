"""What the processes of agents take of the machine: measured cheaply, warned of, and held to what they may take."""
