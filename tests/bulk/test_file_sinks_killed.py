"""Whatever a file sink is killed in, its folder is as of a commit, with every id once."""

from __future__ import annotations

import contextlib
import errno
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from embedmq.bulk.errors import SinkRefused
from embedmq.bulk.sinks.folder import plan
from embedmq.bulk.sinks.folder.sink import FolderSink
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.bulk.file_sinks import IN_MEMORY, KINDS, Disk, assert_holds, hash_of, opened, read_plainly, vectors
from tests.bulk.kill_file_sinks import COMMITS, job

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir=IN_MEMORY) as name:
        yield Path(name)


@pytest.mark.parametrize("kind", KINDS)
def test_a_job_killed_at_any_step_is_as_of_a_commit(kind: str, tmp_path: Path) -> None:
    """SIGKILL before every fsync, rename, unlink of three commits: no reader finds an id twice even before anything is
    mended, the opened folder holds what its checkpoint says, and the same job again comes to its end.
    """
    command = [sys.executable, "-m", "tests.bulk.kill_file_sinks", str(tmp_path), kind]
    steps = int(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True, timeout=60).stdout)
    assert steps > 30
    seen: Counter[bytes | None] = Counter()
    for step in range(steps):
        folder = tmp_path / f"{step}.{kind}"
        found = [id for id, _ in read_plainly(folder)] if list(folder.glob("part-*")) else []
        assert len(found) == len(set(found))
        sink = opened(folder)
        checkpoint = sink.load()
        rows = COMMITS[checkpoint]
        seen[checkpoint] += 1
        if rows:
            assert_holds(folder, rows)
        assert sink.hashes([*"abcdef"]) == {id: hash_of(id, version) for id, version in rows.items()}
        sink.close()
    assert set(seen) == set(COMMITS)
    for step in range(0, steps, 5):
        job(tmp_path / f"{step}.{kind}")
        assert_holds(tmp_path / f"{step}.{kind}", COMMITS[b"3"])


class Killed(BaseException):
    """Stands for the end of the process: nothing reaches the disk after it."""


def _kill() -> None:
    raise Killed


def _fill() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


class Jobs(RuleBasedStateMachine):
    """Two jobs on one folder, one after the other, against a dict: writes, commits, kills, a disk that fills."""

    def __init__(self) -> None:
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(plan, "MAX_SMALL_PARTS", 3)  # merges within the few commits of an example
        self.disk = Disk(self.patch.setattr)
        self.place = tempfile.TemporaryDirectory(dir=IN_MEMORY)
        self.job = "one"
        self.version = 0
        self.rows: dict[str, int] = {}
        self.uncommitted: dict[str, int] = {}
        self.checkpoints: dict[str, bytes] = {}

    @initialize(kind=st.sampled_from(KINDS))
    def begin(self, kind: str) -> None:
        self.folder = Path(self.place.name) / f"vectors.{kind}"
        self.sink: FolderSink = opened(self.folder, self.job)

    @rule(ids=st.sets(st.sampled_from("abcdefgh"), min_size=1, max_size=4))
    def write(self, ids: set[str]) -> None:
        self.version += 1
        rows = dict.fromkeys(sorted(ids), self.version)
        self.sink.write(vectors(rows))
        self.uncommitted |= rows

    @rule()
    def commit(self) -> None:
        self.sink.commit(b"%d" % self.version)
        self._committed()

    @rule()
    def forget(self) -> None:
        self.sink.clear()
        self.checkpoints.pop(self.job, None)

    @rule(job=st.sampled_from(["one", "two"]))
    def reopen(self, job: str) -> None:
        self.sink.close()
        self.job = job
        self.uncommitted = {}
        self.sink = opened(self.folder, job)
        self._agrees()

    @rule(steps=st.integers(0, 14))
    def killed_in_a_commit(self, steps: int) -> None:
        self.version += 1
        self.disk.stop_after(steps, _kill)
        with contextlib.suppress(Killed):
            self.sink.commit(b"%d" % self.version)
        self.disk.stop_after(0, _kill)
        with contextlib.suppress(Killed):
            self.sink.close()
        self.disk.heal()
        self.sink = opened(self.folder, self.job)
        self._as_of_either()

    @rule(steps=st.integers(0, 14))
    def disk_full_in_a_commit(self, steps: int) -> None:
        self.version += 1
        self.disk.stop_after(steps, _fill)
        try:
            self.sink.commit(b"%d" % self.version)
        except SinkRefused as refused:
            assert "free some space" in str(refused)  # noqa: PT017 - whether it is raised depends on the step
        self.disk.heal()
        self._as_of_either()

    def teardown(self) -> None:
        self.disk.heal()
        if hasattr(self, "sink"):
            self.sink.close()
            if self.rows:
                assert_holds(self.folder, self.rows)
        self.patch.undo()
        self.place.cleanup()

    def _as_of_either(self) -> None:
        """After a fault the checkpoint says whether the commit was made; the rows have to say the same."""
        if self.sink.load() == b"%d" % self.version:
            self._committed()
        self.uncommitted = {}
        self._agrees()

    def _committed(self) -> None:
        self.rows |= self.uncommitted
        self.uncommitted = {}
        self.checkpoints[self.job] = b"%d" % self.version
        self._agrees()

    def _agrees(self) -> None:
        assert self.sink.load() == self.checkpoints.get(self.job)
        expected = {id: hash_of(id, version) for id, version in self.rows.items()}
        assert self.sink.hashes([*"abcdefgh"]) == expected
        if self.rows:
            assert_holds(self.folder, self.rows)


TestJobs = Jobs.TestCase
TestJobs.settings = settings(
    max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
