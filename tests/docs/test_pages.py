"""The pages say what is so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from embedmq.settings import Setup
from embedmq_schemas.connection import SECRETS
from embedmq_schemas.environment import overrides
from embedmq_worker.config import Config, Kafka, Model, Redis, Worker
from embedmq_worker.configuration import load
from embedmq_worker.errors import ConfigInvalid

from docs import generate
from docs.pages import logs, settings
from docs.pages.source import ROOT

PAGES = sorted(path for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
DECISIONS = sorted((ROOT / "docs" / "decisions").glob("[0-9]*.md"))
ROW = re.compile(r"^\| `(\w+)` \| (.*?) \| (.*?) \| .* \| `(EMBEDMQ_\w+)` \|$", re.MULTILINE)


def rows(heading: str) -> list[tuple[str, str, str, str]]:
    """Key, type, default and variable of each setting under a heading."""
    section = settings.page().split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]
    found: list[tuple[str, str, str, str]] = ROW.findall(section)
    return found


def sample(kind: str, default: str) -> str:
    """A value that a setting takes, as the environment writes it."""
    if default in {"none", "*required*"}:
        if kind.startswith(("integer", "number")):
            return "7"
        if kind == "true or false":
            return "true"
        if choice := re.search(r"one of `(\w+)`", kind):
            return choice[1]
        return "PLAIN" if "PLAIN" in kind else __file__
    return default.strip("`").replace("_", "").strip('[]"') if "embedmq" not in default else "embedmq"


def test_the_generated_pages_are_up_to_date() -> None:
    """Whoever changes the source runs `make docs`."""
    assert generate.main(["--check"]) == 0


@pytest.mark.parametrize(
    ("heading", "kind"),
    [("The top of the file", Config), ("`[kafka]`", Kafka), ("`[redis]`", Redis), ("`[worker]`", Worker),
     ("`[models.NAME]`", Model)],
)  # fmt: skip
def test_every_setting_is_there_and_its_variable_sets_it(tmp_path: Path, heading: str, kind: type[Any]) -> None:
    """The environment is read as the page says, one variable at a time."""
    file = tmp_path / "worker.toml"
    file.write_text('[models.name]\ncheckpoint = "null:8"')
    listed = rows(heading)
    assert {key for key, *_ in listed} >= {name for name in kind.__struct_fields__ if not hasattr(kind, "models")} - {
        "kafka", "redis", "worker", "limits"
    }  # fmt: skip
    for key, type_, default, variable in listed:
        load(file, {variable: sample(type_, default)})
        if key in SECRETS:
            assert type_ == "secret"
        if "__" in variable:
            with pytest.raises(ConfigInvalid):
                load(file, {f"{variable}X": "1"})


def test_every_setting_of_a_client_is_there_and_its_variable_sets_it() -> None:
    """What `Client.from_env` reads."""
    for key, kind, default, variable in rows("Clients"):
        value = sample(kind, default)
        found = getattr(Setup.from_paths(overrides({variable: value})), key)
        if isinstance(found, list):
            assert found == value.split(",")
        else:
            assert found == (value == "true" if isinstance(found, bool) else type(found)(value))


def test_an_event_whose_name_or_fields_cannot_be_read_is_not_passed_over(tmp_path: Path) -> None:
    """Else the page of logs would be short of it and nobody would notice."""
    module = tmp_path / "module.py"
    for line in ("log.info(name)", "log.info('event', extra=made())", "log.info('event', extra=known | more)"):
        module.write_text(f'"""Why?"""\n{line}\n')
        with pytest.raises(ValueError, match=r"must be written out|cannot tell the fields"):
            list(logs.events(module, "module"))


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """To files of this repository, and to headings that exist."""
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), target
        headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE) if anchor else []
        assert not anchor or anchor in {
            re.sub(r"[^\w\- ]", "", head).strip().lower().replace(" ", "-") for head in headings
        }


def test_the_changelog_ends_with_this_version() -> None:
    """Its newest entry is the version that is built."""
    newest = re.search(r"^## \[(\d+\.\d+\.\d+)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert f'version = "{newest.group(1)}"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize("page", DECISIONS, ids=lambda path: path.stem)
def test_a_decision_is_a_page_that_says_what_would_change_it(page: Path) -> None:
    """Numbered without gaps; context, decision and what would change our mind."""
    text = page.read_text()
    assert page.name.startswith(f"{DECISIONS.index(page) + 1:04}-")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["Context", "Decision", "What would change our mind"]
    assert len(text.splitlines()) <= 60


def test_contributing_is_one_page() -> None:
    """In order, and short enough to be read."""
    assert len((ROOT / "CONTRIBUTING.md").read_text().splitlines()) <= 60
