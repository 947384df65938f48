"""Prometheus' own programs read what it is given. Run by `make deploy-check`."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.deploy import tools
from tests.deploy.files import DEPLOY


def test_prometheus_takes_what_compose_gives_it(tmp_path: Path) -> None:
    """The configuration and the alerts, where they would be mounted."""
    config = (DEPLOY / "compose" / "prometheus.yml").read_text()
    (tmp_path / "prometheus.yml").write_text(config.replace("/etc/prometheus", str(DEPLOY / "monitoring")))
    tools.run(tools.prometheus() / "promtool", "check", "config", tmp_path / "prometheus.yml")


def test_alerts_and_dashboard_hold_against_a_real_prometheus() -> None:
    """Their own check: the tests of the rules, and every panel's query against a worker under load."""
    environ = {"PROMETHEUS": str(tools.prometheus())}
    tools.run(sys.executable, "-m", "docs.pages.monitoring.check", environ=environ)
