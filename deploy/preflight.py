"""Can this machine install and run the platform? Says, for each thing that is missing, the command that fixes it.

    python3 deploy/preflight.py [--json] [FOLDER]

Exit code 0: go on; 1: something is missing. Only the standard library, and only what Python 3.6 understands: this
is what tells somebody that their Python is too old.
"""

import json
import os
import platform
import shutil
import sys
from pathlib import Path

OLDEST = (3, 11)
DISK_BYTES = 2 * 1024**3

COMPOSE = "docker compose up -d"


def python_version(version=None):
    found = tuple((version or sys.version_info)[:2])
    if found >= OLDEST:
        return None
    newer = _newer_python()
    said = "Python {}.{} is too old, 3.11 or newer is needed".format(*found)
    if newer:
        return said, f"make PYTHON={newer} install"
    return said, _by_system(
        debian="apt-get install python3.11 python3.11-venv, or uv python install 3.12",
        fedora="dnf install python3.12",
        mac="brew install python@3.12",
        other="install Python 3.12 from python.org",
    ) + ", then make PYTHON=python3.12 install"


def operating_system(name=None):
    if (name or platform.system()) != "Windows":
        return None
    return (
        "Windows itself is not supported: the embedded servers are Linux and macOS programs",
        "wsl --install, then run make inside WSL2",
    )


def c_library(libc=None):
    if platform.system() != "Linux":
        return None
    found = libc if libc is not None else _libc()
    if found != "musl":
        return None
    return "this Linux uses musl (Alpine): there are no packages of the embedded servers for it", COMPOSE


def processor(machine=None):
    found = (machine or platform.machine()).lower()
    if found in ("x86_64", "amd64", "aarch64", "arm64"):
        return None
    return f"no packages of the embedded servers for {found} processors", COMPOSE


def venv_module(importable=None):
    present = importable or _importable
    missing = [name for name in ("venv", "ensurepip") if not present(name)]
    if not missing:
        return None
    version = "{}.{}".format(*sys.version_info[:2])
    return (
        "this Python lacks {}: no virtual environment can be made".format(" and ".join(missing)),
        _by_system(
            debian=f"apt-get install python3-venv (or python{version}-venv)",
            fedora="dnf install python3-pip",
            mac="brew install python@3.12",
            other=f"install the full Python {version}",
        ),
    )


def disk(folder=None, free=None):
    found = free if free is not None else shutil.disk_usage(str(folder or Path.cwd())).free
    if found >= DISK_BYTES:
        return None
    return (
        f"only {found / 1024.0**3:.1f} GB are free in {folder or Path.cwd()}, 2 GB are needed",
        "free some space, or clone onto a larger disk",
    )


def writable(folder=None):
    place = folder or Path.cwd()
    if os.access(str(place), os.W_OK):
        return None
    return f"{place} cannot be written to", "clone into a folder of your own"


def findings(folder=None):
    checks = (
        ("operating system", operating_system),
        ("Python", python_version),
        ("venv", venv_module),
        ("C library", c_library),
        ("processor", processor),
        ("disk", lambda: disk(folder)),
        ("folder", lambda: writable(folder)),
    )
    found = []
    for name, check in checks:
        problem = check()
        if problem:
            found.append({"check": name, "problem": problem[0], "fix": problem[1]})
    return found


def main(arguments):
    folders = [argument for argument in arguments if not argument.startswith("-")]
    found = findings(folders[0] if folders else None)
    if "--json" in arguments:
        sys.stdout.write(json.dumps(found) + "\n")
    else:
        for finding in found:
            sys.stderr.write("{problem}\n  fix: {fix}\n".format(**finding))
    return 1 if found else 0


def _importable(name):
    try:
        __import__(name)
    except ImportError:
        return False
    return True


def _newer_python():
    for minor in (13, 12, 11):
        name = f"python3.{minor}"
        if shutil.which(name):
            return name
    return None


def _libc():
    try:
        with Path(sys.executable).open("rb") as program:
            return "musl" if b"ld-musl" in program.read(1 << 20) else "glibc"
    except (OSError, TypeError):
        return "unknown"


def _by_system(debian, fedora, mac, other):
    if platform.system() == "Darwin":
        return mac
    if shutil.which("apt-get"):
        return debian
    return fedora if shutil.which("dnf") else other


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
