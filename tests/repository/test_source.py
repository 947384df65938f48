"""The source keeps the shape that makes any behaviour findable within two minutes."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from statistics import median

from docs.pages.source import PACKAGES, ROOT, parse, sentence

MAX_LINES = 300
FOLDERS = *PACKAGES.values(), ROOT / "docs", ROOT / "benchmarks"
SOURCE = sorted(path for folder in FOLDERS for path in folder.rglob("*.py"))
PLACES = re.compile(
    r"""(?:^|[\s"'=(`])/(?:work|root|home|tmp|opt|Users)/   # folders of somebody's machine
    | \b(?:pypi\.org|pythonhosted\.org|repo1?\.maven|anaconda\.org|huggingface\.co/)
    | \b(?:--extra-index-url|--find-links|--trusted-host)\b""",
    re.VERBOSE | re.MULTILINE,
)


def test_each_module_says_in_a_sentence_what_it_answers() -> None:
    """The table of modules in docs/architecture.md is made of these."""
    silent = [path for path in SOURCE if not sentence(parse(path)).endswith((".", "?"))]
    assert silent == []


def test_modules_are_short() -> None:
    """One that grows past 300 lines has two subjects; half of them have at most 120."""
    lengths = {path: len(path.read_text().splitlines()) for path in SOURCE}
    assert {path: length for path, length in lengths.items() if length > MAX_LINES} == {}
    assert median(lengths.values()) <= 120


def test_modules_are_named_by_what_they_are_about() -> None:
    """Names that say nothing gather everything."""
    empty = re.compile(r"manager|handler|util|helper|base|impl|misc|common")
    assert [path for path in SOURCE if empty.search(path.stem)] == []


def test_nothing_is_left_for_later() -> None:
    """What is not done is an issue, not a comment."""
    mark = re.compile(r"\b(TODO|FIXME|XXX|HACK|NotImplementedError)\b")
    found = [
        f"{path}:{n}" for path in SOURCE for n, line in enumerate(path.read_text().splitlines(), 1) if mark.search(line)
    ]
    assert found == []


def test_no_module_reads_the_environment_when_it_is_imported() -> None:
    """Importing us changes nothing and depends on nothing."""

    def reads(path: Path) -> bool:
        outside = [
            node
            for node in parse(path).body
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        ]
        inner = (node for statement in outside for node in ast.walk(statement))
        return any(isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"} for node in inner)

    assert [path for path in SOURCE if reads(path)] == []


def test_no_file_names_somebodys_machine_or_package_host(files: list[Path]) -> None:
    """What works here works anywhere; mirrors are each user's own business."""
    found = []
    for path in files:
        if path == Path(__file__):
            continue
        try:
            text = path.read_text("utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(ROOT)}: {match.group().strip()}" for match in PLACES.finditer(text)]
    assert found == []
