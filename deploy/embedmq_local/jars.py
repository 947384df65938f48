"""Where do Kafka's jars come from, and are they the right ones?"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from embedmq_local.errors import ConfigurationError, DownloadError
from embedmq_local.progress import Progress, silent

KAFKA_VERSION = "4.3.1"
LOCK = Path(__file__).with_name(f"kafka-{KAFKA_VERSION}.lock")
THREADS = 8
ATTEMPTS = 3  # of one download
RETRY_S = 0.5  # before the second, twice as long before the third
HTTP_TIMEOUT_S = 15


@dataclass(frozen=True)
class Jar:
    """One line of the lock file: a Maven coordinate and the SHA-256 of its jar."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def name(self) -> str:
        return f"{self.artifact}-{self.version}.jar"

    def __str__(self) -> str:
        return f"{self.group}:{self.artifact}:{self.version}"


def cache_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """The one folder in which the local stack keeps what it downloads."""
    if chosen := environ.get("EMBEDMQ_CACHE"):
        return Path(chosen).expanduser()
    return Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "embedmq"


def read_lock(lock: Path) -> list[Jar]:
    """Lines `group:artifact:version sha256:HEX`."""
    jars = []
    for line in lock.read_text().splitlines():
        coordinate, _, digest = line.partition(" sha256:")
        group, artifact, version = coordinate.split(":")
        jars.append(Jar(group, artifact, version, digest))
    return jars


def kafka_classpath(cache: Path, lock: Path = LOCK, progress: Progress = silent) -> str:
    """The class path of the jars that `lock` names, downloading those that the cache lacks.

    Every jar's SHA-256 is compared on every start (43 MB), so that a damaged file never runs: it is downloaded again.
    Raises `DownloadError` and `ConfigurationError`, the latter when the cache cannot be written.
    """
    jars, folder = read_lock(lock), cache / f"kafka-{KAFKA_VERSION}"
    with ThreadPoolExecutor(THREADS) as pool:
        if _missing(pool, folder, jars):
            with _only_one(folder):
                if missing := _missing(pool, folder, jars):  # another process may have been faster
                    _download(pool, folder, missing, progress)
    return os.pathsep.join(str(folder / jar.name) for jar in jars)


def _missing(pool: ThreadPoolExecutor, folder: Path, jars: Sequence[Jar]) -> list[Jar]:
    digests = pool.map(lambda jar: _sha256(folder / jar.name), jars)
    return [jar for jar, digest in zip(jars, digests, strict=True) if digest != jar.sha256]


def _sha256(file: Path) -> str | None:
    try:
        with file.open("rb") as content:
            return hashlib.file_digest(content, "sha256").hexdigest()
    except OSError:  # not there, or not readable: writing it will tell
        return None


@contextmanager
def _only_one(folder: Path) -> Iterator[None]:
    """One process downloads, others wait for it; the lock goes with the process."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("w")
    except OSError as error:
        raise ConfigurationError(
            f"cannot write to the cache {folder}: {error.strerror}; set EMBEDMQ_CACHE to a folder of yours"
        ) from error
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _download(pool: ThreadPoolExecutor, folder: Path, jars: Sequence[Jar], progress: Progress) -> None:
    partial = folder / ".partial"
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
    given_up = threading.Event()
    with _system_certificates():
        downloads = [pool.submit(_fetch, jar, partial, folder, given_up) for jar in jars]
        try:
            for done, download in enumerate(as_completed(downloads)):
                progress(f"downloading Kafka {KAFKA_VERSION}", done, len(jars))
                download.result()
            progress(f"downloading Kafka {KAFKA_VERSION}", len(jars), len(jars))
        finally:
            given_up.set()
            for download in downloads:
                download.cancel()
    shutil.rmtree(partial, ignore_errors=True)


def _fetch(jar: Jar, partial: Path, folder: Path, given_up: threading.Event) -> None:
    """Download one jar, compare it, and only then give it its name in the cache."""
    file = _resolve(jar, partial, given_up)
    if (found := _sha256(file)) != jar.sha256:
        file.unlink()
        raise DownloadError(
            f"refused {jar}: its SHA-256 is {found}, the lock file says {jar.sha256}; "
            "something between here and Maven Central changed it: try another network"
        )
    file.replace(folder / jar.name)


def _resolve(jar: Jar, partial: Path, given_up: threading.Event) -> Path:
    from jgo.maven import MavenContext  # costs 0.3 s, and only the first start needs it

    # Exactly this file: jgo's own resolution of dependencies picks other versions.
    artifact = (
        MavenContext(repo_cache=partial, timeout=HTTP_TIMEOUT_S)
        .project(jar.group, jar.artifact)
        .at_version(jar.version)
        .artifact()
    )
    attempt = 1
    while True:
        try:
            return Path(artifact.resolve())
        except (OSError, RuntimeError) as error:  # requests' errors are OSErrors, jgo's are RuntimeErrors
            if artifact.cached_path:
                artifact.cached_path.unlink(missing_ok=True)  # half a file would pass for a whole one
            if attempt == ATTEMPTS or given_up.wait(RETRY_S * attempt):
                raise DownloadError(
                    f"could not download {jar}: {_reason(error)}; connect once or set EMBEDMQ_CACHE to a filled cache"
                ) from error
            attempt += 1


def _reason(error: BaseException) -> str:
    """The innermost cause, in one line: the outer ones repeat it with their own names around it."""
    while inner := error.__cause__ or error.__context__:
        error = inner
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def _system_certificates() -> Iterator[None]:
    """Trust what the machine trusts: companies have certificates of their own."""
    import truststore

    truststore.inject_into_ssl()
    try:
        yield
    finally:
        truststore.extract_from_ssl()
