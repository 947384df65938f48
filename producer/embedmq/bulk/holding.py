"""Which process holds a job, and is it known to be gone?"""

from __future__ import annotations

import os
import socket
import uuid
from pathlib import Path

SEPARATOR = "|"
_BOOT, _NAMESPACE = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")


def new_token() -> str:
    """Names this process for one run of a job, as `is_gone` can look for it."""
    return SEPARATOR.join((uuid.uuid4().hex, str(os.getpid()), _place()))


def who() -> str:
    """This process, for a person on any machine."""
    return f"{socket.gethostname()} pid {os.getpid()}"


def is_gone(token: str) -> bool:
    """Whether a token was a process's that could be seen from here and is no more: nobody will hear of it again. Of a
    process elsewhere, in another container for one, nothing is known.
    """
    _, _, rest = token.partition(SEPARATOR)
    pid, _, place = rest.partition(SEPARATOR)
    if not place or place != _place() or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False  # another user's
    return False


def _place() -> str:
    """Where process numbers mean the same: this boot of this kernel, this namespace. Empty where nobody can tell."""
    try:
        return f"{_BOOT.read_text().strip()}:{_NAMESPACE.readlink()}"
    except OSError:
        return ""
