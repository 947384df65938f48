"""Which metrics does a worker show, and what is to be done about each?"""

from __future__ import annotations

from embedmq_worker.metrics import METRICS, PROCESS

from docs.pages.markdown import NOTE, table

HEAD = ("metric", "kind", "unit", "labels", "meaning", "what to do")
INTRODUCTION = """\
# Metrics

Every worker serves them at `http://<worker.http>/metrics`, in Prometheus's text format. Labels are bounded: `model`
has the configured names, `lane` is `interactive` or `bulk`, `code` is `ok` or one of the [codes](wire.md#codes),
`tenant` has the names that `[tenants]` lists, and `*` for all others. Those that begin with `process_` are there on
Linux. [Monitoring](monitoring.md) says what to ask of them, and when to be woken up.

"""


def page() -> str:
    """docs/metrics.md."""
    rows = [
        (f"`{m.name}`", m.kind, m.unit, ", ".join(f"`{label}`" for label in m.labels), m.meaning, m.remedy)
        for m in (*METRICS, *PROCESS)
    ]
    buckets = [(f"`{m.name}`", ", ".join(f"{bound:g}" for bound in m.buckets)) for m in METRICS if m.buckets]
    return NOTE + INTRODUCTION + table(HEAD, rows) + "\n## Buckets\n\n" + table(("metric", "upper bounds"), buckets)
