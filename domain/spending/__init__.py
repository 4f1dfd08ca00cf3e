"""What may be spent, and what is: limits, the windows they are counted in, and amounts of money."""
