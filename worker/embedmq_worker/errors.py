"""What can go wrong with a worker, apart from its requests?

WorkerError
├── ConfigInvalid       a key, its value and the rule it breaks           exit 2
├── CheckpointInvalid   a model that cannot be found or is not safe       exit 2
└── Unreachable         Kafka or Redis did not answer or let us in        exit 3
"""

from __future__ import annotations

from typing import ClassVar


class WorkerError(Exception):
    """The world is not as the worker needs it."""

    retryable: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1


class ConfigInvalid(WorkerError):
    """The configuration breaks a rule."""

    exit_code: ClassVar[int] = 2


class CheckpointInvalid(WorkerError):
    """A configured checkpoint does not exist, is of an unknown kind, or would have to be unpickled."""

    exit_code: ClassVar[int] = 2


class Unreachable(WorkerError):
    """Kafka or Redis is away."""

    retryable: ClassVar[bool] = True
    exit_code: ClassVar[int] = 3
