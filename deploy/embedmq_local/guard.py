"""What makes a child process end when its parent ends, whatever ends the parent?

Run as a script: `python -I -S guard.py SCRATCH COMMAND…`. Its stdin is a pipe of which only the parent holds the other
end, so end-of-file means that the parent is gone: the command's process group gets SIGTERM, then SIGKILL, and the
folder SCRATCH (if one is named) is removed. Otherwise the guard waits, having written the command's pid to its stdout,
and ends as the command ended: with the same exit code, or by the same signal. The command writes to the guard's stderr.
"""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
import time
from collections.abc import Sequence
from typing import NoReturn

GRACE_S = 3.0  # between SIGTERM and SIGKILL once the parent is gone
PARENT_POLL_S = 1.0  # a copy of the pipe's end in a process that the parent forked would hide the end of the parent
PR_SET_PDEATHSIG = 1  # linux/prctl.h
IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # the guard outlives what it guards


def main(scratch: str, command: Sequence[str]) -> NoReturn:
    parent = os.getppid()
    for number in IGNORED:
        signal.signal(number, signal.SIG_IGN)
    guard = os.getpid()  # asked in the child, it would be another's once the guard is dead
    child = os.fork()
    if child == 0:
        become(command, guard)
    own_group(child)
    os.write(1, f"{child}\n".encode())
    orphaned = threading.Event()
    threading.Thread(target=follow, args=(parent, child, orphaned), daemon=True).start()
    _, status = os.waitpid(child, 0)
    signal_group(child, signal.SIGKILL)
    if orphaned.is_set() and scratch:
        import shutil

        shutil.rmtree(scratch, ignore_errors=True)
    end_as(status)


def become(command: Sequence[str], guard: int) -> NoReturn:
    """In the child: a process group of its own, default signals, and (on Linux) death with the guard."""
    own_group(0)
    for number in (*IGNORED, signal.SIGPIPE):
        signal.signal(number, signal.SIG_DFL)
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != guard:
            os._exit(1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    try:
        os.execvp(command[0], list(command))  # noqa: S606 -- no shell is what is wanted
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode())
    os._exit(127)


def follow(parent: int, child: int, orphaned: threading.Event) -> None:
    """Wait for the parent's end, then end the child's group."""
    while os.getppid() == parent:
        if select.select([0], [], [], PARENT_POLL_S)[0] and not os.read(0, 1024):
            break
    orphaned.set()
    signal_group(child, signal.SIGTERM)
    time.sleep(GRACE_S)
    signal_group(child, signal.SIGKILL)


def own_group(pid: int) -> None:
    """Called on both sides of the fork, so that the group exists whichever side runs first."""
    try:
        os.setpgid(pid, pid)
    except OSError:  # it has its group already, or has ended
        pass


def signal_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except OSError:  # nobody is left in it
        pass


def end_as(status: int) -> NoReturn:
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the command's core file is the interesting one
        if -code != signal.SIGKILL:
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
