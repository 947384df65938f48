"""Is the README true? Its code runs, its transcript is what the demo prints, its promises have tests."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from embedmq_local.stack import Stack
from embedmq_schemas.codec import decode_request

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
FENCES = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def fenced(language: str) -> list[str]:
    """The blocks of one language, in order."""
    return [text for found, text in FENCES if found == language]


def shape(line: str) -> str:
    """A line without its figures and what it aligns, for comparing two runs."""
    return re.sub(r"\s+", " ", re.sub(r"[\d.,]+", "0", line)).strip()


@pytest.mark.timeout(180)
def test_the_python_of_the_readme_prints_what_the_readme_says(stack: Stack, tmp_path: Path) -> None:
    """Copied into a file and run against a real worker, the example gives the output beneath it."""
    worker = stack.start_worker()
    worker.wait_ready()
    script = tmp_path / "example.py"
    script.write_text(fenced("python")[0])
    environment = {**os.environ, "EMBEDMQ_KAFKA": stack.kafka, "EMBEDMQ_REDIS": stack.redis}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout in fenced("text")
    assert worker.stop() == 0


@pytest.mark.timeout(180)
def test_the_demo_prints_what_the_readme_shows(tmp_path: Path) -> None:
    """The transcript has the lines of a real run: the same words, other figures; the searches find sensible things."""
    command = [sys.executable, "-m", "embedmq", "demo", "--texts", "300"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    printed, shown = done.stdout.splitlines(), fenced("text")[0].splitlines()
    assert len(printed) == len(shown)
    for ours, readmes in zip(printed, shown, strict=True):
        if not readmes.startswith("  0."):  # what is found among fewer texts is found elsewhere
            assert shape(ours) == shape(readmes)


def test_the_record_of_the_readme_is_a_request() -> None:
    """The JSON that other languages send is accepted as it stands."""
    for text in fenced("json"):
        request = decode_request(json.dumps(json.loads(text)).encode(), "json")
        assert request.reply is not None


def test_the_worker_file_of_the_readme_is_a_configuration(tmp_path: Path) -> None:
    """`embedmq config check` has nothing to say against the file."""
    file = tmp_path / "worker.toml"
    file.write_text(fenced("toml")[0])
    command = [sys.executable, "-m", "embedmq", "config", "check", "--config", str(file)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("page", ["README.md", "docs/guarantees.md"])
def test_every_promise_names_a_test_that_exists(page: str) -> None:
    """A promise without its test is none."""
    text = (ROOT / page).read_text(encoding="utf-8")
    cited = re.findall(r"\[`([Tt]est_?\w+)`\]\(([\w/.]+)\)", text)
    assert len(cited) >= 12
    for name, path in cited:
        source = ((ROOT / page).parent / path).read_text(encoding="utf-8")
        assert f"def {name}(" in source or f"\n{name} = " in source, f"{path} has no {name}"


def test_every_link_of_the_readme_leads_somewhere() -> None:
    """Files that the README links are there."""
    for path in re.findall(r"\]\((?!http)([^)#]+)\)", README):
        assert (ROOT / path).exists(), path


def test_no_block_of_the_readme_escapes() -> None:
    """Only languages that a test reads, or a person types, are used."""
    assert {language for language, _ in FENCES} <= {"console", "python", "text", "json", "toml"}
