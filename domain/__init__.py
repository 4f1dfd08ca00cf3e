"""What can happen: commands, events, states and decisions. Pure: no I/O, no clock, no random."""
