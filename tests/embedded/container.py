"""Runs a program as root has it in a container with default settings: root over all files, but no user namespaces.

`container.py PROGRAM [ARGUMENT...]`, as root, on Linux. Ends with status 99 where that cannot be set up.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

_CLONE_NEWUSER = 0x10000000
_PR_CAPBSET_DROP = 24
# What Docker leaves to root: chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap, net_bind_service,
# net_raw, sys_chroot, mknod, audit_write, setfcap.
_KEPT = {0, 1, 3, 4, 5, 6, 7, 8, 10, 13, 18, 27, 29, 31}
_libc = ctypes.CDLL(None, use_errno=True)


def main(command: list[str]) -> None:
    inside, outside = os.pipe()
    container = os.getpid()
    if (helper := os.fork()) == 0:
        os.close(outside)
        os.read(inside, 1)
        for name in ("uid_map", "gid_map"):
            Path(f"/proc/{container}/{name}").write_text("0 0 65536")
        os._exit(0)
    if _libc.unshare(_CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    os.write(outside, b".")
    if os.waitpid(helper, 0)[1] != 0:
        raise OSError("the users cannot be mapped")
    Path("/proc/sys/user/max_user_namespaces").write_text("0")
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    for capability in set(range(last + 1)) - _KEPT:
        _libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    os.execvp(command[0], command)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except OSError as error:
        print(error, file=sys.stderr)
        sys.exit(99)
