"""What can go wrong with a worker, apart from its requests?

WorkerError
├── ConfigInvalid             a key, its value and the rule it breaks                     exit 2
├── CheckpointInvalid         a model that cannot be loaded, now or later                 exit 2
│   ├── CheckpointMissing     no such folder, package, model of the hub or shard of it
│   ├── RevisionMissing       the hub has the model, but not this revision
│   ├── CheckpointGated       the hub wants a token, or one with more rights
│   ├── CheckpointUnsafe      pickled weights, or code of its own that is not allowed
│   ├── CheckpointBroken      wrong shapes, NaN weights, an unknown architecture
│   └── CheckpointTooLarge    more bytes than the memory budget can ever hold
├── CheckpointUnreachable     the hub or the disk did not answer: tried again             exit 3
├── OutOfMemory               the device had too little memory for a batch or a model
├── DeviceLost                the device is broken: nothing more can be computed in this process
└── Unreachable               Kafka or Redis did not answer or let us in                  exit 3
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
    """A configured checkpoint cannot be loaded, and trying again would not help."""

    exit_code: ClassVar[int] = 2


class CheckpointMissing(CheckpointInvalid):
    """Nothing is there, or a part of it is not."""


class RevisionMissing(CheckpointInvalid):
    """The hub knows the model, but not its revision."""


class CheckpointGated(CheckpointInvalid):
    """The hub does not give it to this token."""


class CheckpointUnsafe(CheckpointInvalid):
    """It would have to be unpickled, or would run code of its own."""


class CheckpointBroken(CheckpointInvalid):
    """What is there is no model that can be computed."""


class CheckpointTooLarge(CheckpointInvalid):
    """It can never fit beside what is pinned."""


class CheckpointUnreachable(WorkerError):
    """The hub or the disk did not answer."""

    retryable: ClassVar[bool] = True
    exit_code: ClassVar[int] = 3


class OutOfMemory(WorkerError):
    """The device, or the machine, had too little memory."""

    retryable: ClassVar[bool] = True


class DeviceLost(WorkerError):
    """The device is broken, by what it was given or by itself: only a new process may get it back."""

    retryable: ClassVar[bool] = True


class Unreachable(WorkerError):
    """Kafka or Redis is away."""

    retryable: ClassVar[bool] = True
    exit_code: ClassVar[int] = 3
