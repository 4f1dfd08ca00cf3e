"""Connect to HOST PORT while another process swaps the address's family, and say how often that came through."""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import socket
import struct
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
ATTEMPTS = 20_000

host, port = sys.argv[1], int(sys.argv[2])
with open("page", "w+b") as file:  # noqa: PTH123 - one that both share: what no file holds may not be shared
    file.truncate(mmap.PAGESIZE)
    page = mmap.mmap(file.fileno(), mmap.PAGESIZE)
page[:16] = struct.pack("=H", 0) + struct.pack("!H", port) + socket.inet_aton(host) + bytes(8)
address = ctypes.addressof(ctypes.c_char.from_buffer(page))
swapper = os.fork()
if swapper == 0:
    while os.getppid() != 1:
        page[0] = socket.AF_INET
        page[0] = 0
    os._exit(0)
connected = 0
for _ in range(ATTEMPTS):
    with socket.socket() as made, contextlib.suppress(OSError):
        LIBC.connect(made.fileno(), ctypes.c_void_p(address), 16)
        made.getpeername()
        connected += 1
os.kill(swapper, 9)
print(connected, "connected")
