"""Which files under `docs/` and `deploy/monitoring/` are generated, and are they up to date?

`python -m docs.generate` writes them, `--check` exits 1 and lists those that differ. Run from the repository's root.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from embedmq_schemas.documents import asyncapi, json_schema

from docs.pages import architecture, chart, cli, decisions, logs, metrics, settings
from docs.pages.monitoring import dashboard, page, rules
from docs.pages.monitoring.questions import QUESTIONS

DOCS: Final = Path(__file__).parent


def pretty(document: Mapping[str, object]) -> str:
    """JSON that can be read, and compared line by line."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


GENERATED: Final[Mapping[str, Callable[[], str]]] = {
    "schemas/wire.json": lambda: pretty(json_schema()),
    "asyncapi.json": lambda: pretty(asyncapi()),
    "settings.md": settings.page,
    "metrics.md": metrics.page,
    "logs.md": logs.page,
    "schemas/log.json": lambda: pretty(logs.schema()),
    "monitoring.md": lambda: page.page(QUESTIONS),
    "../deploy/monitoring/alerts.yaml": lambda: rules.rules(QUESTIONS),
    "../deploy/monitoring/alerts_test.yaml": lambda: rules.tests(QUESTIONS),
    "../deploy/monitoring/dashboard.json": lambda: dashboard.dashboard(QUESTIONS),
    "chart.md": chart.page,
    "../deploy/helm/embedmq/values.schema.json": lambda: pretty(chart.schema()),
    "cli.md": cli.page,
    "architecture.md": architecture.page,
    "decisions/README.md": lambda: decisions.page(DOCS / "decisions"),
}
"""Each file's path below `docs/`, and what makes its text."""


def stale(folder: Path) -> dict[Path, str]:
    """The files that are missing or differ from what would be generated, with the text they should have."""
    wanted = {folder / name: make() for name, make in GENERATED.items()}
    return {path: text for path, text in wanted.items() if not path.exists() or path.read_text("utf-8") != text}


def main(arguments: list[str], folder: Path = DOCS) -> int:
    """Write or check; returns the exit code."""
    if arguments not in ([], ["--check"]):
        print("usage: python -m docs.generate [--check]", file=sys.stderr)
        return 2
    found = stale(folder)
    for path, text in found.items():
        name = path.relative_to(folder)
        if arguments:
            print(f"docs/{name} is not what would be generated: run `make docs`", file=sys.stderr)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
            print(f"wrote docs/{name}")
    return 1 if found and arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
