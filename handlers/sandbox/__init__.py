"""Sandboxes: processes that hold nothing but one socket, a workspace and their limits.

This file imports nothing, because the zygote and every agent forked from it pay for what it imports. Take
`Sandboxes` from `handlers.sandbox.sandboxes`, `SandboxPolicy` from `handlers.sandbox.policy`, and `program_argv`
from `handlers.sandbox.program`.
"""
