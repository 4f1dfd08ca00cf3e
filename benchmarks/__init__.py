"""Our figures, measured with the machine and the versions beside them: `python -m benchmarks`."""
