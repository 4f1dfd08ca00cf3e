"""The memory of large buffers is kept for the next ones.

Every checkpoint that is loaded or stored needs some of up to a few MiB. glibc gives such memory back to the kernel as
soon as it is free; to get 1 MiB of it again costs 256 page faults, 0.5 ms, nearly as much as to hash it.
"""

from __future__ import annotations

_LARGEST_BYTES = 8 * 1024 * 1024


def keep_freed_memory() -> None:
    """From now on this process keeps buffers of up to 8 MiB when they are freed, 16 MiB in all.

    That is how glibc adapts to a buffer of that size once it has been freed (mallopt(3)); other allocators do not.
    """
    # Zeros come from the kernel as they are: nothing of this is ever written, or in memory.
    bytes(_LARGEST_BYTES)
