"""Is every block of code on every page executed by a test, generated, or excused for one of a few reasons?"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from textwrap import dedent

import click
import pytest
from embedmq.cli.root import make_root
from embedmq.settings import Setup
from embedmq_schemas.envelope import Record
from embedmq_schemas.environment import overrides
from embedmq_schemas.names import Names
from embedmq_schemas.requests import Embed
from embedmq_worker.configuration import load

from docs.generate import GENERATED as MADE
from docs.pages.source import ROOT
from tests.docs.blocks import BLOCKS, GENERATED, Block, Proof, Reason, blocks
from tests.schemas.records import accept

ALL = list(blocks())
PROOFS = [(page, pattern, proof) for page, patterns in BLOCKS.items() for pattern, proof in patterns.items()]
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))


def test_every_block_has_somebody_who_makes_sure_of_it() -> None:
    """A new page, or a new block on an old one, is a row of the table: who executes it?"""
    assert [f"{block.page}: {block.title}" for block in ALL if block.proof is None] == []


def test_no_row_of_the_table_is_about_nothing() -> None:
    """A block that was removed takes its row along."""
    used = {(block.page, block.proof) for block in ALL}
    assert [(page, pattern) for page, pattern, proof in PROOFS if (page, proof) not in used] == []


@pytest.mark.parametrize(("page", "pattern", "proof"), PROOFS, ids=lambda value: str(value)[:50])
def test_who_makes_sure_is_there(page: str, pattern: str, proof: Proof) -> None:
    """A test that exists, or a page that is generated; a file alone stands for its tests."""
    assert pattern
    if isinstance(proof, Reason):
        return
    if proof == GENERATED:
        assert page.removeprefix("docs/") in MADE
        return
    file, _, name = proof.partition("::")
    source = (ROOT / file).read_text("utf-8")
    assert re.search(rf"def {name or 'test_.*'}\(", source)


def test_every_fence_is_read() -> None:
    """None is in a list, tilded or left open, which would hide it from the table."""
    for page in {block.page for block in ALL}:
        fences = re.findall(r"^\s*(?:```|~~~)", (ROOT / page).read_text("utf-8"), re.MULTILINE)
        assert len(fences) == 2 * sum(block.page == page and block.info != "indented" for block in ALL), page


def commands(block: Block) -> Iterator[list[str]]:
    """The commands that a block has somebody type, each as a program gets it."""
    typed = re.findall(r"^\$ ((?:.*\\\n)*.*)$", block.text, re.MULTILINE) if block.info == "console" else [block.text]
    for line in "\n".join(typed).replace("\\\n", " ").splitlines():
        words: list[str] = []
        lexer = shlex.shlex(line, posix=True, punctuation_chars="();<>|&")
        lexer.whitespace_split = True
        for word in [*lexer, ";"]:
            if set(word) <= set("();<>|&"):
                while words and re.match(r"\w+=", words[0]):
                    words.pop(0)
                if words:
                    yield words
                words = []
            else:
                words.append(word)


SHELL = [(block.page, words) for block in ALL if block.info in {"console", "sh"} for words in commands(block)]


def understand(command: click.Command, above: click.Context | None, words: Sequence[str]) -> None:
    """Parse as click would, down to the last command, without doing anything; raises click's UsageError."""
    context = command.context_class(command, above, command.name, **command.context_settings)
    _options, rest, _order = command.make_parser(context).parse_args(list(words))
    if isinstance(command, click.Group) and rest:
        _name, below, left = command.resolve_command(context, rest)
        assert below is not None
        understand(below, context, left)


@pytest.mark.parametrize(("page", "words"), SHELL, ids=[f"{page}: {' '.join(words)}"[:70] for page, words in SHELL])
def test_every_command_that_somebody_types_is_one(page: str, words: list[str]) -> None:
    """Also where a block is shown only: commands and options of ours, targets of make, modules that run."""
    assert page
    match words:
        case [program, *arguments] if Path(program).name == "embedmq":
            understand(make_root(), None, arguments)
        case ["make", target, *_]:
            assert target in TARGETS
        case [program, "-m", module, *_] if Path(program).name.startswith("python") and module.startswith("benchmarks"):
            assert find_spec(module) is not None
        case _:
            pass


def test_a_command_that_is_none_is_found() -> None:
    """Else the test above would prove nothing."""
    for wrong in ("embedmq embedd minilm", "embedmq reindex --modell minilm", "embedmq dead replay --dry"):
        with pytest.raises(click.UsageError):
            understand(make_root(), None, wrong.split()[1:])


def test_the_environment_of_the_security_page_is_one_that_a_worker_and_a_client_read(tmp_path: Path) -> None:
    """Every variable is known to both, and its value accepted."""
    (text,) = (block.text for block in ALL if block.info == "sh worker.env")
    authority, file = tmp_path / "ca.pem", tmp_path / "worker.toml"
    authority.touch()
    file.write_text('[models.minilm]\ncheckpoint = "null:8"')
    given = [line.split("=", 1) for line in text.replace("/etc/embedmq/ca.pem", str(authority)).splitlines()]
    environment = dict(given)
    config = load(file, environment)
    assert (config.kafka.tls, config.kafka.sasl_username, config.redis.username) == (True, "worker", "worker")
    assert Setup.from_paths(overrides(environment)).kafka.sasl_mechanism == "SCRAM-SHA-512"


def test_the_model_that_the_recipes_propose_is_one_for_a_worker(tmp_path: Path) -> None:
    """Once its revision is written in, which a worker insists on."""
    (text,) = (block.text for block in ALL if (block.page, block.info) == ("docs/recipes.md", "indented"))
    file = tmp_path / "worker.toml"
    file.write_text(dedent(text).replace("REVISION", "0" * 40))
    assert load(file, {}).models["ranker"].checkpoint.startswith("hf:")


def test_the_shortest_request_of_the_wire_is_one_and_its_answer_where_it_says() -> None:
    """Header and value as the page has them typed; the key that is asked for is that of the first record of 2026."""
    (text,) = (block.text for block in ALL if (block.page, block.info) == ("docs/wire.md", "indented"))
    ((name, value),) = re.findall(r"# type ([\w-]+):(\S+), a tab", text)
    ((topic, key),) = re.findall(r"--topic (\S+) .*GET (\S+)", text, re.DOTALL)
    record = Record(topic, 0, 0, 1_767_225_600_000, None, b"a cat", [(name, value.encode())])
    envelope, request = accept(record)
    assert isinstance(request, Embed)
    assert (envelope.model, list(request.items), Names().result(envelope.id)) == ("minilm", ["a cat"], key)
