"""What can go wrong around a local stack?"""

from __future__ import annotations

from pathlib import Path


class StackError(Exception):
    """The local stack cannot do what was asked; the message is one line and names the remedy.

    StackError
    ├── ConfigurationError   an option, an environment variable or a file is wrong
    ├── MissingProgram       neither Java nor Redis can be had on this machine
    ├── DownloadError        a jar could not be downloaded, or is not the one the lock file names
    └── ProcessError           a process ended, or was not ready in time; `log` has the reason
        └── PortTaken        another program took the port first
    """


class ConfigurationError(StackError):
    """An option, an environment variable or a file is wrong."""


class MissingProgram(StackError):
    """A program that the stack needs is not on this machine."""


class DownloadError(StackError):
    """A file of Kafka could not be downloaded, or is not the one that the lock file names."""


class ProcessError(StackError):
    """The process `name` ended, or was not ready in time. The last lines of its `log` are attached as a note."""

    def __init__(self, message: str, *, name: str, log: Path) -> None:
        super().__init__(message)
        self.name = name
        self.log = log


class PortTaken(ProcessError):
    """Another program took the port between its choice and the start."""
