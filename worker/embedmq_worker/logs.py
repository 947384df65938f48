"""How does an event become a line of the log? JSON, one object a line, never a request's text."""

from __future__ import annotations

import json
import logging
import sys
import time
from typing import Final

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """`{"time", "level", "event", "logger", …}`: the message names the event, `extra` its fields."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, object] = {
            "time": f"{at}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
        }
        line |= {key: value for key, value in vars(record).items() if key not in _STANDARD}
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return _encode(line)


def configure(level: str, worker_id: str) -> None:
    """Send the log of this process to standard error."""
    output = logging.StreamHandler(sys.stderr)
    output.setFormatter(JsonFormatter())
    output.addFilter(_Named(worker_id))
    logging.basicConfig(level=logging.WARNING, handlers=[output], force=True)
    logging.captureWarnings(True)
    logging.getLogger("embedmq_worker").setLevel(level.upper())
    # aiokafka repeats for every partition what our own events say once
    logging.getLogger("aiokafka").setLevel(logging.ERROR)


def _encode(line: dict[str, object]) -> str:
    try:
        return json.dumps(line, default=str, allow_nan=False)
    except ValueError:  # JSON knows neither NaN nor infinity: they become null
        return json.dumps(json.loads(json.dumps(line, default=str), parse_constant=lambda _: None))


class _Named(logging.Filter):
    """Puts the worker's id on every event."""

    def __init__(self, worker_id: str) -> None:
        super().__init__()
        self._worker_id = worker_id

    def filter(self, record: logging.LogRecord) -> bool:
        record.worker = self._worker_id
        return True
