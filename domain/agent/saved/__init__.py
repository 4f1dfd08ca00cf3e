"""What of an agent is kept, gone back to, and gone on from elsewhere."""
