"""What is lent to nodes, and drawn on by calls."""
