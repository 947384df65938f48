"""What is built holds what it should, and is what others can install, import and check."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import Any

from docs.pages.source import PACKAGES, ROOT

CONSUMER = ROOT / "tests" / "typing" / "consumer.py"
INFO = "embedmq-0.1.0.dist-info"


def test_the_wheel_has_the_four_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    """Every module, the mark that they are typed, and the lock file of Kafka's jars."""
    inside = {name for name in wheel.namelist() if not name.endswith("/")}
    source = {
        (Path(package) / path.relative_to(folder)).as_posix()
        for package, folder in PACKAGES.items()
        for path in folder.rglob("*")
        if path.suffix in {".py", ".typed", ".lock"} and "__pycache__" not in path.parts
    }
    assert {name for name in inside if not name.startswith(INFO)} == source
    assert {f"{package}/py.typed" for package in PACKAGES} <= inside
    assert "embedmq_local/kafka-4.3.1.lock" in inside
    assert f"{INFO}/licenses/LICENSE" in inside


def test_the_command_and_what_joins_it_are_entry_points(wheel: zipfile.ZipFile) -> None:
    """Producer and worker never import each other; the command line finds them by these names."""
    text = wheel.read(f"{INFO}/entry_points.txt").decode()
    assert "embedmq = embedmq.cli.root:main" in text
    assert "[embedmq.commands]" in text
    assert "worker = embedmq_worker.doctor:checks" in text


def test_the_metadata_say_what_it_is(wheel: zipfile.ZipFile, project: dict[str, Any]) -> None:
    """Version, licence and the extras of the design; torch and pyarrow only behind one."""
    metadata = Parser().parsestr(wheel.read(f"{INFO}/METADATA").decode())
    assert metadata["Version"] == project["version"]
    assert metadata["License-Expression"] == "Apache-2.0"
    assert {"worker", "local", "dev"} <= set(metadata.get_all("Provides-Extra", []))
    bare = [line for line in metadata.get_all("Requires-Dist", []) if "extra ==" not in line]
    assert not [line for line in bare if line.startswith(("torch", "pyarrow", "transformers"))]


def test_the_source_distribution_has_the_source_and_nothing_else(built: Path) -> None:
    """No caches, no environment, no tests that would need half of the repository."""
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = [Path(*Path(member.name).parts[1:]) for member in archive.getmembers() if member.isfile()]
    assert {name.parts[0] for name in names} == {
        "schemas", "producer", "worker", "deploy",
        "README.md", "CHANGELOG.md", "LICENSE", "pyproject.toml", "PKG-INFO", ".gitignore",
    }  # fmt: skip
    assert not [name for name in names if "__pycache__" in name.parts]


def test_what_is_installed_imports_without_the_repository(installed: Path, tmp_path: Path) -> None:
    """The wheel's own files, and the command line's help, from any folder."""
    code = "import embedmq, embedmq_worker.config, embedmq_local; print(embedmq.Client.__module__, embedmq.__file__)"
    printed = subprocess.check_output([installed, "-c", code], cwd=tmp_path, text=True)
    assert printed.startswith(f"embedmq.client {installed.parents[1]}")
    shown = subprocess.check_output([installed, "-m", "embedmq", "--version"], cwd=tmp_path, text=True)
    assert shown.split() == ["embedmq", "0.1.0"]


def test_mypy_sees_our_types_in_somebody_elses_program(installed: Path, tmp_path: Path) -> None:
    """Strict; what is wrong in the program is found, so every mark that something is wrong is needed."""
    shutil.copy(CONSUMER, tmp_path)
    cache = ROOT / ".mypy_cache" / "consumer"
    command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(installed)]
    checked = subprocess.run(
        [*command, "--cache-dir", str(cache), "."], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert checked.stdout == "Success: no issues found in 1 source file\n"
    assert checked.returncode == 0


def test_pyright_sees_our_types_in_somebody_elses_program(installed: Path, tmp_path: Path) -> None:
    """The same program, the other checker."""
    shutil.copy(CONSUMER, tmp_path)
    settings = {
        "typeCheckingMode": "strict",
        "reportUnnecessaryTypeIgnoreComment": True,
        "enableTypeIgnoreComments": False,
    }
    (tmp_path / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [str(Path(sys.executable).with_name("basedpyright")), "--pythonpath", str(installed), "--outputjson"]
    checked = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    report = json.loads(checked.stdout)
    assert [finding["message"] for finding in report["generalDiagnostics"]] == []
    assert report["summary"]["filesAnalyzed"] == 1
    assert checked.returncode == 0
