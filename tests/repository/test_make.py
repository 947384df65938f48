"""`make` on a machine that has Python and nothing else, and what CI runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from docs.pages.source import ROOT

MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = {"setup", "demo", "test", "faults", "fuzz", "check", "bench", "audit", "docs", "deploy-check", "simulate"}
FAKE_PYTHON = """\
#!/bin/sh
case "$*" in
  *"-m venv"*)
    mkdir -p .venv/bin && cp "$0" .venv/bin/python && echo venv >> log
    printf '#!/bin/sh\\necho install >> log\\n' > .venv/bin/uv && chmod +x .venv/bin/uv ;;
esac
"""
WITHOUT_VENV = """\
#!/bin/sh
case "$*" in *"-m venv"*) mkdir -p .venv/bin; echo "ensurepip is not available"; exit 1 ;; esac
"""
FAKE_MAKE = """\
#!/bin/sh
echo "make $1"
case "$1" in
  test) echo "===== 3 passed, 1 skipped in 0.1s ====="; exit "$TEST_RC" ;;
  check) echo "all is well"; exit "$CHECK_RC" ;;
esac
"""


def program(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """What `make setup` looks at, without the rest."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, folder)
    return folder


def make(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Run make with an empty home and next to no environment."""
    bare = {"HOME": str(folder / "home"), "PATH": os.environ["PATH"]}
    return subprocess.Popen(
        ["make", *arguments], cwd=folder, env=bare, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def test_make_alone_lists_the_targets() -> None:
    """Each with what it is for; the first thing that a newcomer types."""
    listed = subprocess.check_output(["make"], cwd=ROOT, text=True, env={"PATH": os.environ["PATH"]})
    assert {line.split()[0] for line in listed.splitlines()} >= TARGETS
    assert all(len(line.split()) > 1 for line in listed.splitlines())


def test_every_target_but_help_and_clean_sets_up_what_it_needs() -> None:
    """Nobody has to know what to run first."""
    named = dict(re.findall(r"^([a-z-]+):(.*?)\s*##", MAKEFILE, re.MULTILINE))
    assert {name for name, needs in named.items() if "$(STAMP)" not in needs} == {"help", "clean"}


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_every_target_that_a_page_names_is_there(page: str) -> None:
    """Commands on the page are commands that work."""
    named = set(re.findall(r"(?:`|\$ )make ([a-z-]+)", (ROOT / page).read_text()))
    assert named <= set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))


def test_without_a_python_it_says_what_to_install(checkout: Path) -> None:
    """One line, exit code 2 of make."""
    setup = make(checkout, "setup", "PYTHON=")
    said, _ = setup.communicate(timeout=100)
    assert setup.returncode == 2
    assert said.startswith("EmbedMQ needs Python 3.11 or newer")


def test_a_python_that_cannot_make_environments_is_named_and_leaves_nothing(checkout: Path, tmp_path: Path) -> None:
    """As Debian's and Ubuntu's is without python3-venv."""
    setup = make(checkout, "setup", f"PYTHON={program(tmp_path / 'bare-python', WITHOUT_VENV)}")
    said, _ = setup.communicate(timeout=100)
    assert setup.returncode == 2
    assert "apt install python3-venv" in said
    assert not (checkout / ".venv").exists()


def test_an_environment_left_half_made_is_made_again(checkout: Path, tmp_path: Path) -> None:
    """Interrupted between its Python and its pip, or made by a Python that is gone."""
    (checkout / ".venv" / "bin").mkdir(parents=True)
    (checkout / ".venv" / "bin" / "python").symlink_to(tmp_path / "gone")
    setup = make(
        checkout,
        "setup",
        f"PYTHON={program(tmp_path / 'python', FAKE_PYTHON.replace('cp ', 'cp --remove-destination '))}",
    )
    said, _ = setup.communicate(timeout=100)
    assert setup.returncode == 0, said
    assert (checkout / "log").read_text().split() == ["venv", "install"]


@pytest.mark.skipif(shutil.which("flock") is None, reason="without flock nothing makes them take turns")
def test_several_makes_at_once_set_up_once(checkout: Path, tmp_path: Path) -> None:
    """The others wait, and find it done."""
    python = program(tmp_path / "python", FAKE_PYTHON)
    running = [make(checkout, "setup", f"PYTHON={python}") for _ in range(4)]
    assert [process.communicate(timeout=100)[0] for process in running].count("") == 3
    assert [process.returncode for process in running] == [0] * 4
    assert (checkout / "log").read_text().split() == ["venv", "install"]


@pytest.mark.parametrize(("test", "check", "code"), [(0, 0, 0), (1, 0, 1), (0, 1, 1)])
def test_ci_runs_tests_and_checks_and_ends_with_how_the_tests_ended(
    tmp_path: Path, test: int, check: int, code: int
) -> None:
    """Both run even if the first fails; either failing fails."""
    program(tmp_path / "bin" / "make", FAKE_MAKE)
    environment = {"PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}", "TEST_RC": str(test), "CHECK_RC": str(check)}
    done = subprocess.run([ROOT / ".ci" / "run"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    lines = done.stdout.splitlines()
    assert [line for line in lines if line.startswith("make ")] == ["make test", "make check"]
    assert lines[-1] == "===== 3 passed, 1 skipped in 0.1s ====="


def test_ci_runs_the_command_that_the_readme_gives_for_tests() -> None:
    """What CI proves is what a reader does."""
    assert "make test" in (ROOT / "README.md").read_text()
    assert os.access(ROOT / ".ci" / "run", os.X_OK)
