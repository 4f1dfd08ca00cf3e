"""Becomes a server that cannot outlive its node: run as a script, it sets the process up and then execs the server.

A script of its own instead of a preexec_fn, because that would run Python between fork and exec of a threaded
program; standard library only, and started with `-I -S`, because it stands in the way of every start (20 ms).

Usage: launcher.py NODE_PID DEATH_SIGNAL PID_FILE OWNED_DIRECTORY PROGRAM [ARGUMENT...]

With an OWNED_DIRECTORY (empty for none) the program is one that refuses to run as root (PostgreSQL). If this is
root, it runs as `nobody` in a user namespace where `nobody` is root outside, so no file changes its owner; where
namespaces are forbidden (a container's default), as the real `nobody`, who gets that directory and may pass by the
permissions of the directories above it and above the program.
"""

# Importing pathlib would cost a third of this script's time.
# ruff: noqa: PTH116, PTH118, PTH120, PTH123

from __future__ import annotations

import ctypes
import os
import pwd
import sys

_CLONE_NEWUSER = 0x10000000
_PR_SET_PDEATHSIG = 1
_PR_SET_KEEPCAPS = 8
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_RAISE = 2
_CAPABILITY_VERSION_3 = 0x20080522
_CAP_DAC_OVERRIDE = 1
_FAILED = 127

_libc = ctypes.CDLL(None, use_errno=True)


def main(arguments: list[str]) -> None:
    node, death_signal, pid_file, owned, program = arguments[:5]
    with open(os.open(pid_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(f"{os.getpid()}\n")
    if owned and not _is_acceptable_to_postgres():
        _become_ordinary(owned, program)
    if sys.platform == "linux":
        # After the change of identity, which would clear it.
        _call("prctl", _PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
    if os.getppid() != int(node):
        sys.exit("the node ended before its server began")
    os.execv(program, arguments[4:])  # noqa: S606 -- to become the program is what this script is for


def _is_acceptable_to_postgres() -> bool:
    """Neither root nor a user without a name, which initdb refuses as well."""
    if os.geteuid() == 0:
        return False
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        return False
    return True


def _become_ordinary(owned: str, program: str) -> None:
    try:
        nobody = pwd.getpwnam("nobody")
        if sys.platform == "linux" and _namespace_works(nobody, owned, program):
            _give(owned, os.geteuid(), os.getegid())
            _enter_namespace(nobody)
        else:
            sys.stderr.write("launcher: no user namespaces here; running as the user nobody\n")
            _give(owned, nobody.pw_uid, nobody.pw_gid)
            _become(nobody)
    except (KeyError, OSError) as error:
        sys.exit(
            f"PostgreSQL refuses to run as this user, and it cannot be run as another ({error}): "
            "run as a normal user or set L02_POSTGRES_URL"
        )


def _namespace_works(user: pwd.struct_passwd, owned: str, program: str) -> bool:
    """Try it in a child: a process which entered a namespace but could not set it up has no way back."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            _enter_namespace(user)
            # Root's power over other users' directories does not reach into the namespace.
            reaches = os.access(os.path.dirname(owned), os.X_OK) and os.access(program, os.X_OK)
            status = 0 if reaches else 1
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1] == 0


def _enter_namespace(user: pwd.struct_passwd) -> None:
    outer_user, outer_group = os.geteuid(), os.getegid()
    _call("unshare", _CLONE_NEWUSER)
    for name, line in (
        ("setgroups", "deny"),
        ("uid_map", f"{user.pw_uid} {outer_user} 1"),
        ("gid_map", f"{user.pw_gid} {outer_group} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(line)


def _become(user: pwd.struct_passwd) -> None:
    if sys.platform == "linux":
        _call("prctl", _PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(user.pw_gid)
    os.setuid(user.pw_uid)
    if sys.platform == "linux":
        # Only this capability survives the exec: to reach the program and the data below directories of root's.
        mask = 1 << _CAP_DAC_OVERRIDE
        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
        sets = (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)
        _call("capset", header, sets)
        _call("prctl", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_OVERRIDE, 0, 0)


def _give(directory: str, user: int, group: int) -> None:
    """Give the tree to the user who runs the server now; it had another only if the other way was taken before."""
    if os.stat(directory).st_uid == user:
        return
    for path, _, files in os.walk(directory):
        os.chown(path, user, group)
        for name in files:
            os.chown(os.path.join(path, name), user, group, follow_symlinks=False)


def _call(function: str, *arguments: object) -> None:
    if getattr(_libc, function)(*arguments) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"{function}: {os.strerror(error)}")


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except OSError as error:
        sys.stderr.write(f"launcher: {error}\n")
        sys.exit(_FAILED)
