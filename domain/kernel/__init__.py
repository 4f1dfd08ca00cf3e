"""What every aggregate has in common: commands, events, the context of a decision, and the aggregate itself."""
