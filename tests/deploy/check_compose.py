"""compose.yaml and the unit of systemd, read by what would run them. Run by `make deploy-check`."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from tests.deploy import tools
from tests.deploy.files import DEPLOY

WARNINGS = ("deprecated", "obsolete", "unset")


def test_compose_takes_the_file_as_it_is() -> None:
    """By the library that `docker compose` reads it with; every file that is mounted is there."""
    done = tools.attempt(tools.go_tool("compose"), "-format", "json", "compose.yaml", folder=DEPLOY)
    assert done.returncode == 0, done.stderr
    assert not [word for word in WARNINGS if word in done.stderr]
    services = json.loads(done.stdout)["services"]
    mounted = [volume for service in services.values() for volume in service.get("volumes", [])]
    assert [
        volume["source"] for volume in mounted if volume["type"] == "bind" and not Path(volume["source"]).is_file()
    ] == []


def test_the_worker_takes_its_configuration() -> None:
    """`embedmq config check`, in the environment that compose.yaml gives it."""
    said = tools.attempt(tools.go_tool("compose"), "-format", "json", "compose.yaml", folder=DEPLOY).stdout
    environ = json.loads(said)["services"]["worker"]["environment"]
    ours = {key: value for key, value in environ.items() if value is not None}
    file = DEPLOY / "compose" / "worker.toml"
    shown = json.loads(tools.run(sys.executable, "-m", "embedmq", "config", "show", "--config", file, environ=ours))
    assert shown["kafka"]["bootstrap"] == ["kafka:19092"]
    assert shown["redis"]["url"] == "redis://redis:6379/0"


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """Nothing unknown, nothing contradictory; with a program that is there in place of the worker."""
    if shutil.which("systemd-analyze") is None:
        tools.missing("systemd-analyze", "it checks units")
    unit = (DEPLOY / "systemd" / "embedmq-worker.service").read_text()
    (tmp_path / "embedmq-worker.service").write_text(unit.replace("/usr/local/embedmq/bin/embedmq", "/bin/true"))
    done = tools.attempt("systemd-analyze", "verify", tmp_path / "embedmq-worker.service")
    assert (done.returncode, done.stderr) == (0, "")
