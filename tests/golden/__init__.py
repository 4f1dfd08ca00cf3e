"""What is stored is never read otherwise: the exact bytes of every released event."""
