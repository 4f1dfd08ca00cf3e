"""Tool servers, real ones in real sandboxes."""
