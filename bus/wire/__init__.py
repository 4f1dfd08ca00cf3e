"""What a message looks like: subjects, headers, events, commands, and what a node and an agent say to each other."""
