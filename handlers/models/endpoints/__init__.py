"""How an endpoint is asked and heard, and what its callers share."""
