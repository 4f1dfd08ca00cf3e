"""What a version before has left behind, and this one goes on with."""
