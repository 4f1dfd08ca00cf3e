"""What every projector does, whatever it writes."""
