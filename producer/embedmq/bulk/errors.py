"""What can end a bulk job before its last row?

EmbedMQError
└── BulkError             each message says what, where and what to do
    ├── SourceRefused     the source cannot be read as it was named: missing, no such column, broken
    ├── SinkRefused       the sink cannot take these vectors: another width, no rights, a full disk
    │   └── ValueRefused  … one row, for what is in its id or a kept column: `row`
    ├── Away              source or sink cannot be reached now; `retryable`
    ├── Unserved          no worker has served the model for too long; `retryable`
    ├── CheckpointRefused the checkpoint is of another job, or cannot be written
    ├── JobTaken          another process runs the job
    ├── JobStopped        paused for good, cancelled, or too many failures: what was done is kept
    └── RevisionChanged   the fleet serves another revision than the one that the job was begun with
"""

from __future__ import annotations

from embedmq.errors import EmbedMQError


class BulkError(EmbedMQError):
    """Everything that ends a bulk job."""


class SourceRefused(BulkError):
    """The source cannot be read as it was named; nothing was embedded for it."""


class SinkRefused(BulkError):
    """The sink cannot take these vectors; what it had is as it was."""


class ValueRefused(SinkRefused):
    """The sink cannot take one row, number `row` of those that were to be written; it took none of them."""

    def __init__(self, row: int, message: str) -> None:
        super().__init__(message)
        self.row = row


class Away(BulkError):
    """A source or a sink cannot be reached; what was not acknowledged is written again when it is back."""

    retryable = True


class Unserved(BulkError):
    """No worker has served the model for too long; the same command goes on when one does."""

    retryable = True


class CheckpointRefused(BulkError):
    """The checkpoint beside the sink belongs to other settings, or cannot be read or written."""


class JobTaken(BulkError):
    """Another process has the job, or writes into the same sink."""


class JobStopped(BulkError):
    """The job was cancelled, or stopped by its own limits; the same command goes on."""


class RevisionChanged(BulkError):
    """Vectors of two revisions of a model cannot be compared, so no job mixes them."""
