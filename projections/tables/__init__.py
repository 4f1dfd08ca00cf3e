"""The tables in PostgreSQL, kept in step with the log."""
