"""What a sandboxed process may do, and how the kernel is told."""
