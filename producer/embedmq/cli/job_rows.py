"""How is a bulk job put in words? Pure; what came from outside never reaches the terminal as it is."""

from __future__ import annotations

import shlex

from embedmq.bulk.failed import path_for
from embedmq.bulk.status import JobStatus
from embedmq.cli.dead_rows import shown

HEAD = ("NAME", "STATE", "ROWS", "FAILED", "RATE", "LEFT", "MODEL", "SINK")


def row(status: JobStatus) -> list[str]:
    """One job on one line of a table."""
    cells = [clean(status.name), status.state, portion(status), f"{status.rows_failed:,}"]
    return [*cells, rate(status) or "-", left(status) or "-", clean(status.model), clean(status.sink)]


def portion(status: JobStatus) -> str:
    """How much of it is dealt with: `1,200/10,000 (12 %)`."""
    if status.rows_total is None:
        return f"{status.rows:,}"
    share = f" ({100 * status.rows // status.rows_total} %)" if status.rows_total > 0 else ""
    return f"{status.rows:,}/{status.rows_total:,}{share}"


def rate(status: JobStatus) -> str:
    """Rows a second, as exact as a reader needs; empty where nothing moves."""
    if status.rate_per_s <= 0:
        return ""
    return f"{status.rate_per_s:,.0f}/s" if status.rate_per_s >= 10 else f"{status.rate_per_s:.2g}/s"


def left(status: JobStatus) -> str:
    """How long it still takes; empty where nobody can tell."""
    return "" if status.left_s is None else duration(status.left_s)


def duration(seconds: float) -> str:
    """In the two largest units: `45s`, `3m 20s`, `2h 5m`, `3d 4h`."""
    whole = round(seconds)
    for unit, size, below, part in (("d", 86_400, "h", 3_600), ("h", 3_600, "m", 60), ("m", 60, "s", 1)):
        if whole >= size:
            return f"{whole // size}{unit} {whole % size // part}{below}"
    return f"{whole}s"


def result(status: JobStatus) -> str:
    """What a job has done, in a line: `1,200/10,000 (12 %) rows, 3 failed, 812/s`."""
    extras = [
        f"{status.rows_failed:,} failed" if status.rows_failed else "",
        f"{status.rows_skipped:,} skipped" if status.rows_skipped else "",
        rate(status),
    ]
    counted = status.rows if status.rows_total is None else status.rows_total
    return ", ".join([f"{portion(status)} row{'' if counted == 1 else 's'}", *filter(None, extras)])


def command(status: JobStatus) -> str:
    """What begins the job, or goes on with it; further options are not known here."""
    options = [("--model", status.model), ("--source", status.source), ("--sink", status.sink), ("--name", status.name)]
    return " ".join(["embedmq reindex", *(f"{option} {shlex.quote(clean(value))}" for option, value in options)])


def advice(status: JobStatus) -> str:
    """What to do next."""
    name = shlex.quote(clean(status.name))
    match status.state:
        case "running":
            return f"embedmq job {name} --follow shows it as it goes; pause and cancel end with what was done kept"
        case "paused":
            return f"embedmq job {name} resume lets it go on"
        case "waiting":
            return "it goes on by itself when what it waits for is back"
        case "done" if status.rows_failed:
            return f"the failed rows are in {clean(str(path_for(status.name)))}, which can be a --source"
        case "done":
            return "nothing: it is done"
        case "failed" | "cancelled" | "interrupted":
            return f"the command that began it goes on where it was, with the same options: {command(status)}"


def clean(text: str) -> str:
    """A text in which a terminal finds nothing to obey."""
    return shown(text.encode(errors="backslashreplace"))
