"""Several nodes, each a process of its own, on the same servers: what happens when one of them is gone."""
