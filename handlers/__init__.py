"""Who reacts: one room per component; none imports another."""
