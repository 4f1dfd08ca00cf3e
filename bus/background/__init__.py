"""Work behind the scenes that goes on whatever happens to it."""
