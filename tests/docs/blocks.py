"""Who makes sure of each block of code on each page? A test that executes it, what generates it, or a reason."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from enum import Enum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from msgspec import Struct

from docs.pages.source import ROOT


class Reason(Enum):
    """Why a block is shown only. Its commands are still held against the command line and the Makefile."""

    INSTALLS = "it installs packages, which every run of CI does by `make setup`"
    DOCKER = "it needs Docker"
    SYSTEMD = "it needs root and systemd"
    GPU = "it measures a GPU"
    MINUTES = "it takes minutes, of which the suite has none to give"
    SUITE = "it is the suite itself"
    DATABASE = "its database is the reader's own; docs/reindex.md runs the same command with one of the tests"
    DRAWING = "it is a drawing"


GENERATED: Final = "generated"
"""By `python -m docs.generate`: `make check` says when it differs."""

_FENCE: Final = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_INDENTED: Final = re.compile(r"^$\n((?: {4}.*\n)+)", re.MULTILINE)
Proof = str | Reason
"""`generated`, a reason, or a test as pytest names it."""

_SITE: Final = "tests/docs/test_site_blocks.py::"
_WIRE: Final = "tests/schemas/test_wire_page.py::"

BLOCKS: Final[Mapping[str, Mapping[str, Proof]]] = {
    "README.md": {
        "console: $ make demo": "tests/docs/test_readme.py::test_the_demo_prints_what_the_readme_shows",
        "text: Kafka at *": "tests/docs/test_readme.py::test_the_demo_prints_what_the_readme_shows",
        "text: producer *": Reason.DRAWING,
        "console: $ .venv/bin/embedmq up": "tests/docs/test_tutorial.py::test_what_it_starts_says_how_it_is_reached",
        "python: *": "tests/docs/test_readme.py::test_the_python_of_the_readme_prints_what_the_readme_says",
        "text: (3, 384) *": "tests/docs/test_readme.py::test_the_python_of_the_readme_prints_what_the_readme_says",
        "console: $ echo *": "tests/docs/test_tutorial.py::test_the_commands_of_the_readme_run_beside_it",
        "console: $ embedmq top *": "tests/docs/test_tutorial.py::test_the_commands_of_the_readme_run_beside_it",
        "json: *": "tests/docs/test_readme.py::test_the_record_of_the_readme_is_a_request",
        "console: $ embedmq reindex *": Reason.DATABASE,
        "console: $ pip install *": Reason.INSTALLS,
        "toml: *": "tests/docs/test_readme.py::test_the_worker_file_of_the_readme_is_a_configuration",
    },
    "docs/adapters.md": {
        "python: import mailbox": "tests/bulk/test_sources_own.py",
        "python: *": "tests/bulk/test_sinks_own.py",
        'toml: [[]project.entry-points."embedmq.sources"]': "tests/bulk/test_sources_own.py",
        "toml: *": "tests/bulk/test_sinks_own.py",
    },
    "docs/architecture.md": {"text: *": GENERATED},
    "docs/cli.md": {"text: *": GENERATED},
    "docs/control.md": {
        "*": "tests/together/test_control_page.py::test_every_command_of_the_page_does_what_it_says",
    },
    "docs/deploy.md": {
        "console: $ .venv/bin/embedmq up": "tests/docs/test_tutorial.py::test_what_it_starts_says_how_it_is_reached",
        "console: $ docker *": Reason.DOCKER,
        "console: $ python3 -m venv *": Reason.SYSTEMD,
        "console: $ helm install *": "tests/deploy/check_chart.py::test_the_command_of_the_page_installs_what_it_says",
    },
    "docs/monitoring.md": {"yaml: *": GENERATED},
    "docs/performance.md": {
        "console: $ make bench *": Reason.MINUTES,
        "console: $ python -m benchmarks.gpu *": Reason.GPU,
    },
    "docs/recipes.md": {
        "indented: [[]models.ranker]": _SITE + "test_the_model_that_the_recipes_propose_is_one_for_a_worker",
        "*": "tests/docs/test_recipes.py::test_a_recipe_does_as_it_says",
    },
    "docs/reindex.md": {"*": "tests/docs/test_reindex_page.py::test_a_section_does_as_it_says"},
    "docs/scale.md": {"console: $ make simulate *": Reason.MINUTES},
    "docs/security.md": {
        "sh worker.env: *": _SITE + "test_the_environment_of_the_security_page_is_one_that_a_worker_and_a_client_read",
        "text users.acl: *": "tests/security/test_rights.py",
    },
    "docs/tenants.md": {"*": "tests/together/test_tenants.py"},
    "docs/testing.md": {
        "python: now = *": "tests/testing/test_page.py::test_the_snippet_of_the_page_runs",
        "*": "tests/testing/test_page.py::test_the_example_of_the_page_passes_and_so_do_the_other_fixtures",
    },
    "docs/doctor.md": {
        "sh: *": "tests/cli/test_doctor.py::test_a_worker_is_looked_at_for_its_own_needs",
        "console: *": "tests/cli/test_doctor_page.py::test_the_transcript_is_what_a_run_prints",
    },
    "docs/top.md": {
        "sh: pip install *": Reason.INSTALLS,
        "sh: *": "tests/top/test_command.py",
    },
    "docs/tracing.md": {"*": "tests/tracing/test_together.py"},
    "docs/tutorial.md": {
        "console: $ make setup": Reason.INSTALLS,
        "console: $ embedmq up": "tests/docs/test_tutorial.py::test_what_it_starts_says_how_it_is_reached",
        "text: Ready; *": "tests/docs/test_tutorial.py::test_what_it_starts_says_how_it_is_reached",
        "*": "tests/docs/test_tutorial.py::test_a_step_does_as_it_says",
    },
    "docs/wire.md": {
        "indented: *": _SITE + "test_the_shortest_request_of_the_wire_is_one_and_its_answer_where_it_says",
        "json request: *": _WIRE + "test_the_requests_on_the_page_are_requests",
        "json refused *": _WIRE + "test_the_broken_requests_on_the_page_are_refused_as_it_says",
        "json result: *": _WIRE + "test_the_results_on_the_page_are_results_with_every_field_known",
        "* entry: *": _WIRE + "test_the_entry_on_the_page_is_what_a_worker_would_write",
        "json stub: *": _WIRE + "test_the_stub_on_the_page_is_one",
        "json model: *": _WIRE + "test_the_catalogue_on_the_page_is_one",
        "json worker: *": _WIRE + "test_the_catalogue_on_the_page_is_one",
    },
}  # fmt: skip
"""Of each page, which block (what stands behind its fence, a colon, its first line) is whose; the first that fits."""


class Block(Struct, frozen=True):
    """A block of code, where it stands, and what stands behind its fence."""

    page: str
    info: str
    text: str

    @property
    def title(self) -> str:
        """What the table above knows it by."""
        return f"{self.info}: {self.text.lstrip().splitlines()[0]}"

    @property
    def proof(self) -> Proof | None:
        """Whoever makes sure of it."""
        patterns = BLOCKS.get(self.page, {})
        return next((proof for pattern, proof in patterns.items() if fnmatchcase(self.title, pattern)), None)


def pages() -> list[str]:
    """Every page whose blocks count, by its path from the root."""
    found = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [path.relative_to(ROOT).as_posix() for path in found]


def blocks() -> Iterator[Block]:
    """All blocks of all pages, in order."""
    for page in pages():
        text = Path(ROOT, page).read_text("utf-8")
        yield from (Block(page, info, inside) for info, inside in _FENCE.findall(text))
        yield from (Block(page, "indented", inside) for inside in _INDENTED.findall(_FENCE.sub("", text)))
