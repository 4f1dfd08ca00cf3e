"""The live views in the key-value bucket, kept in step with the log."""
