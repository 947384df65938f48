"""What deploys workers says the same as the rest of the project: versions, settings, metrics, names, values."""

from __future__ import annotations

import fnmatch
import itertools
import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
from embedmq.cli.commands import names
from embedmq_local.kafka import Broker, Jvm, settings
from embedmq_local.worker import DEFAULT_CONFIG
from embedmq_schemas.environment import overrides
from embedmq_worker.config import Config
from embedmq_worker.configuration import load

from docs.pages import chart, metrics
from docs.pages.source import ROOT
from tests.deploy.files import CHART, DEPLOY, PAGE, commands, dockerfile, leaves, read, variables

COMPOSE = read(DEPLOY / "compose.yaml")
VALUES = read(CHART / "values.yaml")
TEXTS = {
    path: path.read_text("utf-8")
    for path in sorted(DEPLOY.rglob("*"))
    if path.is_file() and "embedmq_local" not in path.parts and "schemas" not in path.parts
}
PLACES = {"log.dirs", "listeners", "advertised.listeners", "controller.quorum.voters"}
"""What differs because containers have addresses and folders of their own."""
LAPTOP = {"broker.session.timeout.ms", "broker.heartbeat.interval.ms", "num.network.threads", "num.io.threads"}
"""What is there for tests that kill brokers, and to keep a laptop's stack small."""


def test_the_version_is_the_projects_everywhere(project_version: str) -> None:
    """Chart, image tags of compose.yaml and of the page."""
    about = read(CHART / "Chart.yaml")
    assert (about["version"], about["appVersion"]) == (project_version, project_version)
    images = [service["image"] for service in COMPOSE["services"].values()]
    ours = [image for image in images if image.startswith("embedmq/")] + re.findall(r"embedmq/worker:[\d.]+-\w+", PAGE)
    assert {image.rpartition(":")[2].rpartition("-")[0] for image in ours} == {project_version}


@pytest.fixture
def project_version() -> str:
    version: str = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    return version


def test_every_value_of_the_chart_has_its_comment() -> None:
    """One right above it, or above the table that it is an example in."""
    commented = {tuple(key.split(".")) for key, _, _ in chart.listed()}
    bare = [path for path in leaves(VALUES) if not any(path[:n] in commented for n in range(2, len(path) + 1))]
    assert [path for path in bare if path[:1] not in commented] == []


def test_secrets_and_what_the_chart_fills_in_have_no_place_in_its_values() -> None:
    """Passwords come from Secrets; a value that would be overwritten is no value."""
    definitions: dict[str, Any] = json.loads(json.dumps(chart.schema()))["$defs"]
    assert not {"sasl_password", "key_password", "bootstrap"} & definitions["Kafka"]["properties"].keys()
    assert not {"password", "url"} & definitions["Redis"]["properties"].keys()
    assert not definitions["Settings"]["additionalProperties"]


def test_every_variable_that_is_set_is_one_that_workers_read() -> None:
    """In the image, the chart, compose.yaml, the unit and the page."""
    named = {name for text in [*TEXTS.values(), PAGE] for name in re.findall(r"\bEMBEDMQ_[A-Z_]*[A-Z]\b", text)}
    assert named >= {"EMBEDMQ_CONFIG", "EMBEDMQ_KAFKA__SASL_PASSWORD", "EMBEDMQ_WORKER__HTTP"}
    tree: dict[str, Any] = {}
    for key in overrides(dict.fromkeys(named - {"EMBEDMQ_CONFIG"}, "1")):
        tree.setdefault(key[0], set()).update(key[1:])
    known = {section: {*getattr(Config(), section).__struct_fields__} for section in tree if section != "prefix"}
    assert {section: keys - known[section] for section, keys in tree.items() if keys - known[section]} == {}


def test_every_metric_that_is_asked_for_is_one_that_workers_have() -> None:
    """KEDA's queries, with the labels that they choose by: under another name, a pool would never grow."""
    gauges = re.findall(r"^\| `(embedmq_\w+)` \| gauge \| \w+ \| `model`, `lane` \|", metrics.page(), re.MULTILINE)
    text = TEXTS[CHART / "templates" / "scaledobject.yaml"]
    asked = set(re.findall(r"\bembedmq_lag_\w+", text))
    assert asked == {"embedmq_lag_tokens", "embedmq_lag_age_seconds"}
    assert asked <= set(gauges)


def test_kafka_in_the_container_is_set_as_on_the_laptop(tmp_path: Path) -> None:
    """But for addresses and folders, and what the laptop's stack has for tests."""
    variables = COMPOSE["services"]["kafka"]["environment"]
    told = {
        name.removeprefix("KAFKA_").lower().replace("_", "."): str(value)
        for name, value in variables.items()
        if name.startswith("KAFKA_") and name != "KAFKA_HEAP_OPTS"
    }
    broker = Broker(1, Jvm("java", ""), "", tmp_path, None)
    local = {key: str(value) for key, value in settings(broker, [broker], tmp_path).items()}
    broker.close()
    assert told.keys() == local.keys() - LAPTOP
    assert {key: value for key, value in told.items() if key not in PLACES} == {
        key: value for key, value in local.items() if key not in PLACES | LAPTOP
    }


def test_redis_in_the_container_evicts_nothing_and_the_worker_serves_what_it_serves_on_the_laptop(
    tmp_path: Path,
) -> None:
    """A result that was evicted would be a caller who waits for ever."""
    command = COMPOSE["services"]["redis"]["command"]
    assert command[command.index("--maxmemory-policy") + 1] == "noeviction"
    local = tmp_path / "worker.toml"
    local.write_text(DEFAULT_CONFIG)
    assert load(DEPLOY / "compose" / "worker.toml", {}) == load(local, {})


def test_what_the_image_is_built_from_reaches_the_builder() -> None:
    """Every COPY is let through by the .dockerignore beside the Dockerfile; nothing else is."""
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().split()
    let_through = {line[1:] for line in ignored if line.startswith("!")}
    copied = {
        source for step in dockerfile() if step.stage == "build" and step.word == "COPY" for source in step.words[:-1]
    }
    assert copied == let_through
    assert not [source for source in copied if not (ROOT / source).exists()]


def test_the_page_lists_each_build_argument_with_its_default() -> None:
    """And no other."""
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| (?:`(.*?)` )?\|", PAGE, re.MULTILINE))
    said = variables("", "ARG") | variables("build", "ARG") | variables("baked", "ARG")
    assert rows == said


def test_a_worker_has_longer_to_stop_than_it_takes() -> None:
    """Everywhere: its own grace, and some to commit and leave."""
    grace_s = Config().worker.shutdown_grace_s
    unit = TEXTS[DEPLOY / "systemd" / "embedmq-worker.service"]
    given = {
        COMPOSE["services"]["worker"]["stop_grace_period"].removesuffix("s"),
        re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)[0],
        re.findall(r"docker stop --time (\d+)", PAGE)[0],
    }
    assert min(map(int, given)) >= grace_s + 15


def test_each_command_of_the_page_names_what_is_there() -> None:
    """Subcommands and options of ours, services of compose.yaml, arguments and stages of the Dockerfile, values of the
    chart, files; that they work, `make deploy-check` shows as far as that goes without an engine.
    """
    stages = {step.stage for step in dockerfile()}
    arguments = {name for stage in ("", *stages) for name in variables(stage, "ARG")}
    for words in commands():
        options = dict(itertools.pairwise(words))
        assert [word for word in words if word.startswith("deploy/") and not (ROOT / word).exists()] == []
        match [word for word in words if "=" not in word or word.startswith("--")]:
            case ["docker", "compose", *_]:
                assert words[-1] in {"--wait", *COMPOSE["services"]}
            case ["docker", "build", *_]:
                named = [words[n + 1].partition("=")[0] for n, word in enumerate(words) if word == "--build-arg"]
                assert set(named) <= arguments
                assert options.get("--target", "worker") in stages
            case ["helm", "install", *_]:
                set_ = [words[n + 1].partition("=")[0] for n, word in enumerate(words) if word == "--set"]
                assert {tuple(key.split(".")) for key in set_} <= set(leaves(VALUES))
            case [program, command, *_] if program.endswith("embedmq"):
                assert command in names()
            case [program, *_]:
                known = ["python3", "install", "systemctl", "*/pip"]
                assert any(fnmatch.fnmatch(program, one) for one in known), words
