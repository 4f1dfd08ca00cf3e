"""Which runtime classes this machine can give. A class it cannot give is refused, never replaced by a weaker one."""

from __future__ import annotations

import importlib.util
import platform
import shutil

from l02.domain.specification import RuntimeClass
from l02.handlers.sandbox.confinement import seccomp
from l02.handlers.sandbox.confinement.linux import IS_LINUX, landlock_abi

LANDLOCK_ABI = 6
"""The first with signal and abstract-socket scopes (Linux 6.12); sandlock demands it too."""


def available() -> dict[RuntimeClass, str | None]:
    """For each class: None if this machine can give it, or else why not."""
    return {
        RuntimeClass.PROCESS: None,
        RuntimeClass.LANDLOCK: _landlock(),
        RuntimeClass.GVISOR: _external("gVisor", "runsc"),
        RuntimeClass.KATA: _external("Kata Containers", "kata-runtime"),
        RuntimeClass.KATA_CC: _external("Kata Containers for confidential computing", "kata-runtime"),
    }


def _landlock() -> str | None:
    if not IS_LINUX:
        return f"Landlock is a part of Linux; this is {platform.system()}"
    if not seccomp.supported():
        return f"no system-call filter is known for {platform.machine()}"
    if importlib.util.find_spec("sandlock") is None:
        return "the package sandlock is not installed"
    version = landlock_abi()
    if version < LANDLOCK_ABI:
        return f"the kernel offers Landlock version {version}; version {LANDLOCK_ABI} (Linux 6.12) is needed"
    return None


def _external(name: str, program: str) -> str:
    path = shutil.which(program)
    if path is None:
        return f"{name} is not installed: {program} is not on PATH"
    return f"{name} is installed ({path}), but this version of l02 does not launch agents through it"
