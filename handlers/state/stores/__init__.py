"""The places where checkpoints are kept: PostgreSQL or NATS' object store, and what both of them do alike."""
