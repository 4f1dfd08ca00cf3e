"""How an agent comes to be, and its process comes and goes."""
