"""What do torch, transformers, safetensors and the system throw while a model loads or computes, and what is it called
here?
"""

from __future__ import annotations

import errno
import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from embedmq_worker.errors import (
    CheckpointBroken,
    CheckpointInvalid,
    CheckpointMissing,
    CheckpointUnreachable,
    CheckpointUnsafe,
    DeviceLost,
    OutOfMemory,
    WorkerError,
)

MAX_CHARACTERS = 300
REPORTER = "transformers.modeling_utils"
"""Who logs what weights a checkpoint lacks; transformers fills them at random and goes on."""

NO_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "not enough memory", "_alloc_failed")
DEVICE = r"(CUDA|CUDA driver|HIP|cuDNN|MIOpen) error\b"
"""How the messages begin that tell of a device. What a CPU throws begins otherwise, and a text that a message quotes
stands further back."""
LOST = (
    r"assert|illegal (memory access|instruction|address)|misaligned address|unspecified launch failure|launch timed out"
    r"|invalid program counter|on global/shared address|hardware stack error|unknown error|\bECC\b|NVLink"
    r"|busy or unavailable|no CUDA-capable device"
    r"|(device|GPU) is lost|context (is destroyed|was destroyed)|invalid device context"
    r"|(CUBLAS|CUDNN|HIPBLAS|MIOPEN)_STATUS_(NOT_INITIALIZED|EXECUTION_FAILED|INTERNAL_ERROR|MAPPING_ERROR)"
)
"""Which of them mean that nothing more will be computed in this process."""
ITS_OWN = (
    r"invalid (configuration )?argument|invalid device (function|ordinal)|no kernel image|not supported(?! on global)"
)
"""What only the call that failed has to do with: the device goes on."""
DISK = {errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.ESTALE, errno.ETIMEDOUT, errno.EMFILE, errno.ENFILE}

SAID: tuple[tuple[str, type[CheckpointInvalid]], ...] = (
    (r"trust_remote_code", CheckpointUnsafe),
    (r"no file named .*safetensors|could not find 'model\.safetensors'", CheckpointMissing),
    (r"does not recognize this architecture|unrecognized (model|configuration)", CheckpointBroken),
    (r"size mismatch|loading state_dict|ignore_mismatched_sizes|conversion of the weights", CheckpointBroken),
    (r"not a valid json|expecting (value|property name)", CheckpointBroken),
)
"""What their messages say, since the types say little: most are ValueError, OSError or RuntimeError."""


@contextmanager
def loading(text: str) -> Iterator[None]:
    """Load a checkpoint inside of this: whatever goes wrong is raised as our own error, in one line that names `text`.

    So are weights that the checkpoint lacks, or has in another shape.

    Raises:
        WorkerError: as `classify` says; CheckpointBroken for weights that would have been random.
    """
    report = _Report(threading.get_ident())
    logger = logging.getLogger(REPORTER)
    if not logger.isEnabledFor(logging.WARNING):
        logger.setLevel(logging.WARNING)  # quiet or not, this report must come
    logger.addFilter(report)
    try:
        yield
    except Exception as error:  # every library beneath has errors of its own
        raise (_broken(report, text) if report.mismatched else classify(error, text)) from error
    finally:
        logger.removeFilter(report)
    if report.missing:
        raise _broken(report, text)


def classify(error: BaseException, text: str) -> WorkerError:
    """What an error while loading `text` is called here."""
    if isinstance(error, WorkerError):
        return error
    said = first_line(error)
    message = f"{text}: {said}"
    names = {kind.__name__ for kind in type(error).__mro__}
    # by name: torch is not imported to look at an error; it has one type for all devices, and older paths have none
    if names & {"OutOfMemoryError", "MemoryError"} or any(words in str(error).lower() for words in NO_MEMORY):
        return OutOfMemory(message)
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return OutOfMemory(message)
    if _is_lost(error, names):
        return DeviceLost(message)
    if isinstance(error, OSError) and error.errno in DISK:
        return CheckpointUnreachable(message)
    if isinstance(error, FileNotFoundError):
        return CheckpointMissing(message)
    if names & {"SafetensorError", "JSONDecodeError"}:
        return CheckpointBroken(message)
    for pattern, kind in SAID:
        if re.search(pattern, str(error), re.IGNORECASE):
            return kind(message)
    return CheckpointInvalid(message)


def _is_lost(error: BaseException, names: set[str]) -> bool:
    """Whether an error says that the device is broken. Errors of one may be reported at a later call, of anything."""
    if "RuntimeError" not in names or not re.match(DEVICE, str(error), re.IGNORECASE):
        return False
    if re.search(LOST, first_line(error), re.IGNORECASE):
        return True
    # torch has this type since 2.8, for whatever a device reports
    return "AcceleratorError" in names and not re.search(ITS_OWN, first_line(error), re.IGNORECASE)


def first_line(error: BaseException) -> str:
    """The first line of what an error says, or its name."""
    lines = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip().splitlines()
    return lines[0].strip()[:MAX_CHARACTERS] if lines else type(error).__name__


class _Report(logging.Filter):
    """Takes the reports of one thread's loading out of the log, and reads them."""

    ROW = re.compile(r"^(\S+)\s*\|\s*(MISSING|MISMATCH)\s*\|(.*)$", re.MULTILINE)

    def __init__(self, thread: int) -> None:
        super().__init__()
        self._thread = thread
        self.missing: list[str] = []
        self.mismatched: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        text = re.sub(r"\x1b\[[0-9;]*m", "", record.getMessage())
        model, told, _ = text.partition(" LOAD REPORT from: ")
        if not told or record.thread != self._thread:
            return True
        for name, status, detail in self.ROW.findall(text):
            if status == "MISMATCH":
                self.mismatched.append(f"{name} ({detail.partition(' - ')[2].strip()})")
            # a bare encoder ends at its last hidden state; its pooler is never asked
            elif not (model.endswith("Model") and re.search(r"(^|\.)pooler\.", name)):
                self.missing.append(name)
        return False


def _broken(report: _Report, text: str) -> CheckpointBroken:
    wrong, what = (report.mismatched, "in another shape") if report.mismatched else (report.missing, "without")
    more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
    return CheckpointBroken(f"{text}: weights {what}: {', '.join(wrong[:3])}{more}; they would have been random")
