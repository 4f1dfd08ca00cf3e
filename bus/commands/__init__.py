"""What is asked of the runtime: taking, deciding, answering, and what waits for its time."""
