"""What it looks like now: PostgreSQL tables and live views, each rebuildable from event 1."""
