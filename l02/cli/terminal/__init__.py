"""How what is found is shown on a terminal, or in a pipe."""
