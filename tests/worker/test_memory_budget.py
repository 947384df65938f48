"""`auto` is a share of what this worker may really use: the container's memory, not the machine's."""

from __future__ import annotations

from pathlib import Path

import pytest
from embedmq_worker.memory import budget_bytes, machine_bytes

GIB = 1024**3


def write(root: Path, path: str, text: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text + "\n")


def test_a_configured_number_is_taken_as_it_is() -> None:
    """Each of several workers gets it."""
    assert budget_bytes(5 * GIB, "cpu", 4) == 5 * GIB


def test_on_a_cpu_half_of_the_machine_is_shared_by_the_workers() -> None:
    """The other half is for requests, and for everybody else."""
    assert budget_bytes("auto", "cpu", 1) == machine_bytes() // 2
    assert budget_bytes("auto", "cpu", 4) == machine_bytes() // 8


@pytest.mark.parametrize(
    ("cgroup", "files", "expected"),
    [
        ("0::/", {"memory.max": "1048576"}, 1_048_576),
        ("0::/pod/one", {"memory.max": "max", "pod/memory.max": "2048", "pod/one/memory.max": "4096"}, 2_048),
        ("0::/gone/elsewhere", {"memory.max": "8192"}, 8_192),
        ("12:cpu,memory:/a\n3:pids:/b", {"memory/a/memory.limit_in_bytes": "512"}, 512),
    ],
    ids=["version 2", "a group around it", "a path of the host's", "version 1"],
)
def test_a_container_s_limit_counts(tmp_path: Path, cgroup: str, files: dict[str, str], expected: int) -> None:
    """Of both versions of control groups, and the least of all groups around."""
    write(tmp_path, "proc/self/cgroup", cgroup)
    for path, text in files.items():
        write(tmp_path, f"sys/fs/cgroup/{path}", text)
    assert machine_bytes(tmp_path) == expected


def test_without_a_limit_it_is_the_machine(tmp_path: Path) -> None:
    """Unlimited is written as `max`, or as a number beyond any machine; other systems have no such files."""
    physical = machine_bytes(tmp_path)
    assert physical > 64 * 1024**2
    write(tmp_path, "proc/self/cgroup", "4:memory:/\n0::/")
    write(tmp_path, "sys/fs/cgroup/memory.max", "max")
    write(tmp_path, "sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712")
    assert machine_bytes(tmp_path) == physical
