"""How fast is Infinity on the same texts? In an environment of its own: it needs other versions than we do."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path

from embedmq_worker.config import Model
from embedmq_worker.engine.checkpoint import locate

from benchmarks import docstrings, plain
from benchmarks.checkpoints import MINILM
from benchmarks.child import child
from benchmarks.cpu import Cpu
from benchmarks.direct import Direct
from benchmarks.harness import Scale, Skipped
from benchmarks.place import ROOT, Place
from benchmarks.plain import Setting
from benchmarks.report import Row
from benchmarks.side import Side, compare, measure
from benchmarks.work import Work, singly, texts

ENVIRONMENT = ROOT / "build" / "infinity"
INFINITY = "infinity-emb==0.0.78"
NEEDS = ("sentence-transformers==3.4.1", "transformers==4.57.6")
"""The last ones that it runs with; torch is of the version that ours runs with."""
INSTALL_TIMEOUT_S = 900.0
CHOICE = tuple(Setting(size) for size in (8, 32, 128))
PROGRAM = Path(__file__).with_name("infinity_side.py")


def infinity(place: Place, scale: Scale) -> list[Row]:
    """MiniLM on docstrings, all of them in one call."""
    python = _environment(ENVIRONMENT)
    calls = singly(docstrings.choose(scale.texts))
    with (
        _program(python, locate(MINILM).source) as theirs,
        child(partial(Direct, Model(checkpoint=MINILM))) as ours,
    ):
        best = plain.fastest(partial(_seconds, theirs), [calls[0][: scale.texts // 2]], CHOICE)
        one = Side("ours", calls, lambda it: ours(Work(it, None)), Cpu({"engine": ours.pid}), place.say)
        alone = Cpu({"encoder": theirs.pid})
        other = Side("infinity", calls, lambda it: _seconds(theirs, Work(it, best)), alone, place.say)
        measure([one, other], scale.runs)
    baseline = f"Infinity {INFINITY.partition('==')[2]} on torch, float32, batches of {best.batch_size}"
    return [compare("engine.infinity", one, other, baseline, goal=1.6)]


def _environment(folder: Path) -> Path:
    """Its Python; made once, and anew when the versions change.

    Raises:
        Skipped: it cannot be installed here.
    """
    python, stamp = folder / "bin" / "python", folder / "versions.txt"
    packages = [f"{INFINITY.replace('==', '[torch]==')}", f"torch=={version('torch')}", *NEEDS]
    wanted = "\n".join(packages)
    if stamp.is_file() and stamp.read_text() == wanted:
        return python
    uv = shutil.which("uv") or shutil.which("uv", path=str(Path(sys.executable).parent))
    if uv is None:
        raise Skipped("to install Infinity, uv is needed: make setup brings it")
    shutil.rmtree(folder, ignore_errors=True)
    _install([uv, "venv", "--quiet", "--python", sys.executable, str(folder)])
    _install([uv, "--system-certs", "pip", "install", "--quiet", "--python", str(python), *packages])
    stamp.write_text(wanted)
    return python


def _install(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise Skipped(f"Infinity was not installed within {INSTALL_TIMEOUT_S:g} s") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no reason given"]
        raise Skipped(f"Infinity cannot be installed here: {' '.join(lines)[:500]}")


@contextlib.contextmanager
def _program(python: Path, folder: str) -> Iterator[subprocess.Popen[str]]:
    """Its side of the comparison, a program that answers lines of JSON; what it says goes to a file."""
    with tempfile.TemporaryFile("w+") as log:
        command = [str(python), str(PROGRAM), folder]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True) as program:
            try:
                yield program
            except RuntimeError as error:
                log.seek(0)
                raise RuntimeError(f"{error}: {log.read()[-2000:]}") from error
            finally:
                program.kill()


def _seconds(program: subprocess.Popen[str], work: Work[Setting]) -> float:
    return sum(_ask(program, texts(call), work.setting.batch_size) for call in work.calls)


def _ask(program: subprocess.Popen[str], them: list[str], batch_size: int) -> float:
    if program.stdin is None or program.stdout is None:
        raise ValueError("the program has no pipes")
    line = ""
    with contextlib.suppress(BrokenPipeError):
        program.stdin.write(json.dumps({"texts": them, "batch_size": batch_size}) + "\n")
        program.stdin.flush()
        line = program.stdout.readline()
    if not line:
        raise RuntimeError("Infinity's program has ended")
    return float(json.loads(line)["seconds"])
