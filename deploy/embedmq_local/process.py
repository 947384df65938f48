"""How is one child process started, watched and ended?"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from embedmq_local import guard
from embedmq_local.errors import PortTaken, ProcessError

POLL_S = 0.02
KILL_TIMEOUT_S = 5.0  # after SIGKILL
TAIL_LINES = 20
TAIL_BYTES = 16_384


class Process:
    """One running command behind a guard, which ends it when this process ends.

    `pid` is the command's own. It leads a process group of its own, so a Ctrl-C in the terminal does not reach it. Its
    output is appended to `log`. `scratch` is removed if this process dies without having stopped the command.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        log: Path,
        *,
        env: Mapping[str, str] | None = None,
        scratch: Path | None = None,
    ) -> None:
        self.name = name
        self.log = log
        self._log_start = log.stat().st_size if log.exists() else 0
        guarded = [sys.executable, "-I", "-S", guard.__file__, str(scratch or ""), *command]
        with log.open("ab") as output:
            self._guard = subprocess.Popen(
                guarded,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env=env,
                cwd=log.parent,
                start_new_session=True,
            )
        assert self._guard.stdout is not None  # noqa: S101 -- it was asked for
        self.output = self._guard.stdout  # readable when the command has ended
        pid = self.output.readline()
        if not pid:
            self.wait(KILL_TIMEOUT_S)
            raise self.failure("could not be started")
        self.pid = int(pid)

    def poll(self) -> int | None:
        """The exit code (-N if ended by signal N), None while it runs."""
        code = self._guard.poll()
        if code is not None and self._guard.stdin is not None:
            self._guard.stdin.close()
            self.output.close()
        return code

    def wait(self, timeout_s: float) -> int | None:
        """The exit code, None if it still runs after `timeout_s`."""
        try:
            self._guard.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
        return self.poll()

    def signal(self, number: int) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):  # it ended in between
                os.kill(self.pid, number)

    def stop(self, number: int, timeout_s: float) -> int:
        """Send the signal, wait, and after `timeout_s` kill the whole process group; the exit code."""
        self.signal(number)
        self.signal(signal.SIGCONT)  # one that is suspended could not obey
        return self.reap(timeout_s)

    def reap(self, timeout_s: float) -> int:
        """Wait for the end, and after `timeout_s` kill the whole process group; the exit code."""
        code = self.wait(timeout_s)
        if code is None:
            os.killpg(self.pid, signal.SIGKILL)
            code = self._guard.wait(KILL_TIMEOUT_S)
            self.poll()
        return code

    def wait_until(self, ready: Callable[[], bool], timeout_s: float) -> None:
        """Poll `ready` until it holds; `ProcessError` when the process ends first or the time is over."""
        deadline = time.monotonic() + timeout_s
        while not ready():
            code = self.poll()
            if code is not None:
                raise self.failure(f"ended with exit code {code} before it was ready")
            if time.monotonic() > deadline:
                raise self.failure(f"was not ready within {timeout_s:.0f} s")
            time.sleep(POLL_S)

    def failure(self, what: str) -> ProcessError:
        """The error that says what happened, with the last lines of this run's log as its note."""
        tail = self.tail()
        taken = any("address already in use" in line.lower() for line in tail)
        last = f" ({tail[-1].strip()})" if tail else ""
        error = (PortTaken if taken else ProcessError)(
            f"{self.name} {what}{last}; its log is {self.log}", name=self.name, log=self.log
        )
        error.add_note("\n".join(tail))
        return error

    def tail(self) -> list[str]:
        """The last lines that this run has written."""
        with self.log.open("rb") as file:
            file.seek(max(self._log_start, self.log.stat().st_size - TAIL_BYTES))
            lines = file.read().decode(errors="replace").splitlines()
        return [line for line in lines if line.strip()][-TAIL_LINES:]
