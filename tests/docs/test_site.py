"""Does the site hang together? Its navigation, links and picture, without building it: `make docs` does that."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from embedmq_schemas.names import Names

from docs.pages.source import ROOT
from docs.site.__main__ import fetched, repository, settings
from docs.site.links import anchors, broken, is_outside, slug, targets
from docs.site.navigation import named, pages
from docs.site.staging import translate

DOCS = ROOT / "docs"
TRACKED = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "schemas").glob("*.md")])
SVG = "{http://www.w3.org/2000/svg}"
PAGE = DOCS / "decisions" / "page.md"
AT = "https://example.org/project"


def test_the_navigation_leads_to_every_page_once() -> None:
    """A new page is a line of docs/site/navigation.py; one that is gone is none."""
    assert sorted(named(DOCS)) == sorted(pages(DOCS))


@pytest.mark.parametrize("page", TRACKED, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_a_file_or_a_heading(page: Path) -> None:
    """As it stands, on GitHub: relative, to what is in the repository, to headings that are there once."""
    assert list(broken(page, ROOT)) == []


@pytest.mark.parametrize("page", TRACKED, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_page_looks_alike_on_github_and_on_the_site(page: Path) -> None:
    """Lists and tables begin after an empty line; there are no admonitions, bare addresses or HTML."""
    text = re.sub(r"^```.*?^```$|`[^`\n]+`|<!--.*?-->", "code", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    above = ""
    for line in text.splitlines():
        match line.strip()[:1]:
            case "" | "#":
                above = ""
            case _ if line.startswith("  "):
                pass  # of the item above
            case "|":
                assert above in {"", "table"}, f"an empty line is missing before: {line}"
                above = "table"
            case _ if re.match(r"(?:[-*+]|\d+\.) ", line):
                assert above != "text", f"an empty line is missing before: {line}"
                above = "list"
            case _:
                above = above or "text"
        assert not re.match(r"!!!|> \[!|:::", line), line
        assert not re.search(r"<[a-zA-Z/][^>]*>", line), line
        assert not re.search(r"(?<![(<\"])https?://", line), line


def test_what_looks_like_a_link_in_code_is_none() -> None:
    """And what is called by code is one."""
    text = "[a](b.md) `[c](d.md)` [`e`](f.md#g) ![h](i.svg)\n```text\n[j](k.md)\n```\n[l](https://m.org)"
    assert targets(text) == ["b.md", "f.md#g", "i.svg", "https://m.org"]
    assert [is_outside(target) for target in targets(text)] == [False, False, False, True]


def test_an_anchor_is_githubs() -> None:
    """Punctuation goes, each space is a dash; what is there twice is left out, what is in code is no heading."""
    assert slug("The `[kafka]` table: TLS & logins") == "the-kafka-table-tls--logins"
    assert slug("[`road.py`](../road.py), and more") == "roadpy-and-more"
    assert anchors("# One\n## Two\n## Two\n```sh\n# three\n```\n### Four #\n") == {"one", "four"}


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    """To no file, out of the repository, to no heading, to an anchor of what has none."""
    (tmp_path / "other.md").write_text("# Here\n")
    (tmp_path / "code.py").touch()
    page = tmp_path / "page.md"
    page.write_text(
        "[a](gone.md) [b](../x) [c](other.md#there) [d](code.py#L1) [e](#no) [f](other.md#here) [g](code.py)"
    )
    found = [line.partition(":")[0] for line in broken(page, tmp_path)]
    assert found == ["gone.md", "../x", "other.md#there", "code.py#L1", "#no"]


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("[a](../wire.md#codes)", "[a](../wire.md#codes)"),
        ("[a](../../tests/docs/walk.py)", f"[a]({AT}/blob/main/tests/docs/walk.py)"),
        ("[a](../../deploy/helm)", f"[a]({AT}/tree/main/deploy/helm)"),
        ("[a](../decisions/)", "[a](../decisions/README.md)"),
        ("[a](../generate.py)", f"[a]({AT}/blob/main/docs/generate.py)"),
        ("[a](../../README.md#the-road)", f"[a]({AT}/blob/main/README.md#the-road)"),
        ("```python ingest.py\nx\n```", '```python title="ingest.py"\nx\n```'),
        ("```text\n[a](../../README.md)\n```", "```text\n[a](../../README.md)\n```"),
    ],
)
def test_a_page_is_translated_for_the_site(written: str, shown: str) -> None:
    """What is in docs/ stays, what is not is in the repository, and a file's name is its block's title."""
    assert translate(written, PAGE, DOCS, AT) == shown


def test_the_repository_is_the_one_of_the_package() -> None:
    """Where links to source files lead."""
    assert repository() == "https://github.com/embedmq/embedmq"
    assert settings()["docs_dir"] == "pages"


def test_what_a_browser_would_fetch_is_found(tmp_path: Path) -> None:
    """Scripts, styles, fonts and pictures of elsewhere; what is clicked is none of that."""
    (tmp_path / "a.html").write_text(
        '<a href="https://a.org"><script src="https://b.org/x.js"></script><img src=c.png>'
    )
    (tmp_path / "b.html").write_text(
        '<link rel="stylesheet" href="//c.org/x.css"><link rel=canonical href=https://d.org>'
    )
    (tmp_path / "c.css").write_text("@font-face { src: url(https://e.org/x.woff) }")
    found = sorted(line.split()[0] for line in fetched(tmp_path))
    assert found == ["//c.org/x.css", "https://b.org/x.js", "https://e.org/x.woff"]


def test_the_picture_shows_the_five_stages_and_the_names_that_are_so() -> None:
    """Of topics, and of commands; it needs nothing from elsewhere, and has colours for light and dark."""
    text = (DOCS / "road.svg").read_text("utf-8")
    drawn = ["".join(element.itertext()) for element in ET.fromstring(text).iter(f"{SVG}text")]
    assert [word for word in drawn if word in {"decode", "gather", "encode", "deliver", "commit"}] == [
        "decode", "gather", "encode", "deliver", "commit"
    ]  # fmt: skip
    names = Names()
    assert {
        names.requests("<model>", "interactive"),
        names.requests("<model>", "bulk"),
        names.shared("bulk").replace("bulk", "<lane>"),
        names.retry(10),
        names.dead,
    } <= set(drawn)
    assert re.findall(r"https?://[^\"]+|@import|<script|<image", text) == ["http://www.w3.org/2000/svg"]
    assert "prefers-color-scheme: dark" in text
