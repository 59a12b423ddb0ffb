"""Become a server that dies with its parent and, if asked, isn't root.

    python -I -S launch.py PARENT_PID DEATH_SIGNAL USER|- COMMAND…

A program of its own, because what it does belongs between fork and exec, and Python code may not safely run
there in a process with threads. Only the standard library: it starts in some 15 ms.

PostgreSQL refuses to run as root, and the data folder may lie in one that only root may enter. So of all of
root's powers the server keeps one, as an ambient capability: to pass by file permissions. Nothing is copied
and no folder is opened to others.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import sys

PR_SET_PDEATHSIG = 1
PR_SET_KEEPCAPS = 8
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
CAP_DAC_OVERRIDE = 1
LINUX_CAPABILITY_VERSION_3 = 0x20080522


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def die_with(parent: int, number: int) -> None:
    """Have the kernel send the signal when the parent ends, also if it ended just now."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


def become(user: str) -> None:
    """Change from root to the user, with the power to pass by file permissions if there is one to keep."""
    entry = pwd.getpwnam(user)
    linux = sys.platform.startswith("linux")
    libc = ctypes.CDLL(None, use_errno=True)
    if linux:
        libc.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0)
    os.setgroups([])
    os.setgid(entry.pw_gid)
    os.setuid(entry.pw_uid)
    if linux:
        keep = 1 << CAP_DAC_OVERRIDE
        header = _Header(LINUX_CAPABILITY_VERSION_3, 0)
        data = (_Data * 2)(_Data(keep, keep, keep), _Data(0, 0, 0))
        # A container may have taken the power from root: then the folders must be ones the user can enter.
        if libc.capset(ctypes.byref(header), ctypes.byref(data)) == 0:
            libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE, 0, 0)
        else:
            data = (_Data * 2)(_Data(0, 0, 0), _Data(0, 0, 0))
            libc.capset(ctypes.byref(header), ctypes.byref(data))


def main(arguments: list[str]) -> None:
    parent, number, user, *command = arguments
    if user != "-":
        become(user)
    if sys.platform.startswith("linux") and number != "0":
        die_with(int(parent), int(number))
    os.execv(command[0], command)  # noqa: S606 - that no shell is in between is the point


if __name__ == "__main__":
    main(sys.argv[1:])
