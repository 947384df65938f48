"""Where is a Redis server that has TLS? The machine's, else Debian's, unpacked into build/ and installed nowhere."""

from __future__ import annotations

import fcntl
import platform
import shutil
import subprocess
from pathlib import Path

from embedmq_local.errors import MissingProgram
from embedmq_local.redis_server import redis_version

from docs.pages.source import ROOT

PACKAGES = ("redis-server", "redis-tools", "libjemalloc2", "liblzf1")
"""With the libraries that a Debian without them lacks."""
FOLDER = ROOT / "build" / "redis-with-tls"
FETCH_TIMEOUT_S = 90.0


def find_tls_redis() -> str:
    """The program to run; raises MissingProgram."""
    for name in ("redis-server", "valkey-server"):
        if (on_path := shutil.which(name)) and has_tls(on_path):
            return on_path
    program = FOLDER / "redis-server"
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (FOLDER / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # other processes of the same run look for it, too
        if not program.exists() or not has_tls(str(program)):
            _unpack(program)
    return str(program)


def has_tls(program: str) -> bool:
    """Whether it knows of TLS: one without stops at the setting, one with at the certificate, which is none."""
    if redis_version(program) < (6, 2):
        return False
    options = ("--port", "0", "--tls-port", "1", "--tls-cert-file", "/dev/null", "--tls-key-file", "/dev/null")
    told = subprocess.run([program, *options], capture_output=True, text=True, timeout=10, check=False)
    return told.returncode != 0 and "Failed to configure TLS" in told.stdout + told.stderr


def _unpack(program: Path) -> None:
    if shutil.which("apt-get") is None:
        raise MissingProgram("no redis-server with TLS on PATH, and no Debian whose packages could be asked")
    root = FOLDER / "root"
    shutil.rmtree(root, ignore_errors=True)
    fetch = ("apt-get", "download", *PACKAGES)
    if not _run(fetch) and not (_run(("apt-get", "update")) and _run(fetch)):
        raise MissingProgram("no redis-server with TLS on PATH, and Debian's could not be fetched")
    for package in sorted(FOLDER.glob("*.deb")):
        subprocess.run(["dpkg", "-x", str(package), str(root)], check=True, timeout=FETCH_TIMEOUT_S)
        package.unlink()
    libraries = root / "usr" / "lib" / f"{platform.machine()}-linux-gnu"
    binary = root / "usr" / "bin" / "redis-server"
    if not binary.exists():  # redis-tools has the program that redis-server links to
        raise MissingProgram("Debian's redis-server is not where it was")
    program.write_text(f"#!/bin/sh\nLD_LIBRARY_PATH='{libraries}' exec '{binary}' \"$@\"\n")
    program.chmod(0o755)
    if not has_tls(str(program)):
        raise MissingProgram("Debian's redis-server does not run here, or has no TLS")


def _run(command: tuple[str, ...]) -> bool:
    try:
        subprocess.run(command, cwd=FOLDER, capture_output=True, check=True, timeout=FETCH_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError):
        return False
    return True
