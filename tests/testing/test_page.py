"""docs/testing.md is true: its example is taken from the page and run, and so are the fixtures of the pytest plugin."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import indent
from typing import Any

import embedmq
import pytest
from embedmq.testing import FakeClient

PAGE = Path(__file__, "../../../docs/testing.md").resolve().read_text(encoding="utf-8")
FILES = dict(re.findall(r"`([\w.]+)`:\n\n```\w+\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
FIXTURES = """
import asyncio
import os
import embedmq

def test_sync(embedmq_sync_client, embedmq_env):
    assert os.environ["EMBEDMQ_KAFKA"] == embedmq_env["EMBEDMQ_KAFKA"]
    ticket = embedmq_sync_client.submit("minilm", "a", keep_s=60)

    async def fetch():
        async with embedmq.Client.from_env() as mq:
            return await mq.result(ticket.id, wait_s=30)

    assert asyncio.run(fetch()).dense.shape == (1, 384)

def test_environment_is_put_back(embedmq_prefix):
    assert "EMBEDMQ_KAFKA" not in os.environ
    assert embedmq_prefix.isalnum()
"""

Run = Callable[..., str]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run pytest on files in a folder of their own, with every warning an error; gives what it printed."""

    def call(files: dict[str, str], **environ: str) -> str:
        for name, text in files.items():
            (tmp_path / name).write_text(text)
        inherited = {
            name: value for name, value in os.environ.items() if name != "CI" and not name.startswith("PYTEST")
        }
        command = [sys.executable, "-m", "pytest", "-q", "-rA", "-W", "error", "-p", "no:cacheprovider"]
        done = subprocess.run(
            command, cwd=tmp_path, env=inherited | environ, capture_output=True, text=True, check=False
        )
        return done.stdout + done.stderr

    return call


def test_the_example_of_the_page_passes_and_so_do_the_other_fixtures(run: Run) -> None:
    """Fake and real stack in one run, as a user would have it."""
    quiet = "-o asyncio_default_fixture_loop_scope=function"  # else pytest-asyncio warns
    printed = run({**FILES, "test_fixtures.py": FIXTURES}, PYTEST_ADDOPTS=quiet)
    assert "5 passed" in printed, printed


async def test_the_snippet_of_the_page_runs() -> None:
    """Holding, releasing and expiring, as written."""
    (snippet,) = re.findall(r"^```python\n(now = .*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    scope: dict[str, Any] = {"FakeClient": FakeClient, "embedmq": embedmq, "pytest": pytest}
    exec("async def snippet():\n" + indent(snippet, "    "), scope)
    await scope["snippet"]()


def test_without_the_extra_a_test_is_skipped_with_the_remedy_and_fails_in_ci(run: Run) -> None:
    """Never silently, and never as a stack trace."""
    files = {
        "conftest.py": "import sys\nsys.modules['jgo'] = None\n",
        "test_it.py": "def test_it(embedmq_sync_client): pass\n",
    }
    alone = {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_PLUGINS": "embedmq_local.pytest_plugin"}
    assert "1 skipped" in (skipped := run(files, **alone))
    assert "pip install 'embedmq[local]'" in skipped
    assert "1 error" in (failed := run(files, **alone, CI="1"))
    assert "pip install 'embedmq[local]'" in failed


def test_loading_the_plugin_imports_nothing_that_a_suite_would_notice() -> None:
    """It is loaded in every project that has embedmq installed."""
    code = (
        "import sys, pytest; before = set(sys.modules); import embedmq_local.pytest_plugin;"
        "print(sorted({name.partition('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)))"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "['embedmq_local']"
