"""What is reckoned with what may be spent."""
