"""What is decided about a budget."""
