"""Sandboxes: processes that hold nothing but one socket, a workspace and their limits.

This file imports nothing, because the zygote and every agent forked from it pay for what it imports. `Sandboxes` are in
`sandboxes`, `SandboxPolicy` in `confinement.policy`, and `program_argv` in `program`.
"""
