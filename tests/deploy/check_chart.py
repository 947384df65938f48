"""The chart as helm renders it: good Kubernetes, and a configuration that workers take. Run by `make deploy-check`."""

from __future__ import annotations

import sys
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from embedmq_schemas.names import Names
from embedmq_schemas.requests import LANES

from tests.deploy import tools
from tests.deploy.conftest import Rendered, given
from tests.deploy.files import CASES, CHART, DEPLOY, commands, documents

OLDEST, NEWEST = "1.27.0", "1.37.0"
BAD = {
    "image.tagg=x": "'tagg' not allowed",
    "config.worker.max_batch_ms=0": "/config/worker/max_batch_ms",
    "config.worker.nonsense=1": "'nonsense' not allowed",
    "config.kafka.sasl_password=x": "'sasl_password' not allowed",
    "config.redis.url=redis://x": "'url' not allowed",
    "redis.url=redis://:secret@x": "does not match pattern",
    "pools.default.device=gpu": "'cpu', 'cuda'",
    "pools.more.replicas=1": "missing property 'models'",
    "pools.default=null": "minProperties",
    "pools.default.models.minilm.checkpoint=1": "want string",
    "kafka.clientCertificate=true": "kafka.clientCertificate needs kafka.tlsSecret",
    "poolDefaults.autoscaling.minReplicas=-1": "minimum",
}


def name(case: object) -> str:
    return case.stem if isinstance(case, Path) else "default" if case is None else str(case)


def only(objects: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [thing for thing in objects if thing["kind"] == kind]


@pytest.fixture(scope="session")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's schemas of the oldest and the newest Kubernetes, so that what they point to is found in a folder."""
    folder = tmp_path_factory.mktemp("schemas")
    source = Path(str(files("kubernetes_validate"))) / "kubernetes-json-schema"
    for version in (OLDEST, NEWEST):
        (folder / version).mkdir()
        for path in (source / f"v{version}-local-strict").glob("*.json"):
            here = path.read_text().replace('"/api/_definitions', '"_definitions').replace('"$id"', '"$comment"')
            (folder / version / path.name).write_text(here)
    return folder


@pytest.fixture(scope="session")
def kubeconform() -> Path:
    return tools.go_tool("kubeconform")


@pytest.mark.parametrize("case", CASES, ids=name)
def test_helm_finds_nothing_to_say(helm: Path, case: Path | None) -> None:
    """Strict: a warning is an error."""
    tools.run(helm, "lint", "--strict", CHART, *given(case))


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_every_object_is_of_its_kind(
    rendered: Rendered, helm: Path, kubeconform: Path, schemas: Path, version: str, tmp_path: Path
) -> None:
    """No unknown field, no missing one; of KEDA's and the Prometheus Operator's kinds, too."""
    for case in CASES:
        (tmp_path / f"{name(case)}.yaml").write_text(tools.run(helm, "template", "mq", CHART, *given(case)))
    kinds = f"{schemas}/{version}/{{{{ .ResourceKind }}}}{{{{ .KindSuffix }}}}.json"
    custom = f"{DEPLOY}/helm/schemas/{{{{ .ResourceKind }}}}_{{{{ .ResourceAPIVersion }}}}.json"
    places = ("-schema-location", kinds, "-schema-location", custom)
    said = tools.run(kubeconform, "-strict", "-summary", "-kubernetes-version", version, *places, tmp_path)
    assert "Invalid: 0, Errors: 0, Skipped: 0" in said


@pytest.mark.parametrize("case", CASES, ids=name)
def test_the_worker_itself_takes_the_configuration_of_each_pool(
    rendered: Rendered, case: Path | None, tmp_path: Path
) -> None:
    """`embedmq config check`, with the certificates where they would be mounted."""
    objects = rendered(case)
    pools = [thing for thing in only(objects, "ConfigMap") if "worker.toml" in thing["data"]]
    assert len(pools) == len(only(objects, "Deployment"))
    for server in ("kafka", "redis"):
        (tmp_path / "tls" / server).mkdir(parents=True)
        for pem in ("ca.crt", "tls.crt", "tls.key"):
            (tmp_path / "tls" / server / pem).touch()
    for pool in pools:
        file = tmp_path / "worker.toml"
        file.write_text(pool["data"]["worker.toml"].replace("/etc/embedmq/tls", str(tmp_path / "tls")))
        assert tools.run(sys.executable, "-m", "embedmq", "config", "check", "--config", file).startswith("good: ")


@pytest.mark.parametrize("setting", BAD)
def test_a_wrong_value_is_refused_before_anything_is_installed(helm: Path, setting: str) -> None:
    """By name, the worker's settings and secrets included."""
    refused = tools.attempt(helm, "template", "mq", CHART, "--set", setting)
    assert refused.returncode != 0
    assert BAD[setting] in refused.stderr


@pytest.mark.parametrize("case", CASES, ids=name)
def test_workers_are_confined_and_have_the_time_they_need(rendered: Rendered, case: Path | None) -> None:
    """No root, nothing to write but caches, no token; a grace that is longer than the worker's own."""
    for deployment in only(rendered(case), "Deployment"):
        pod = deployment["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not pod["automountServiceAccountToken"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")} == {
            "/cache",
            "/tmp",
        }
        assert pod["terminationGracePeriodSeconds"] >= (76 if name(case) == "gpu" else 40)
        assert {variable["name"] for variable in container["env"] if "value" in variable} == {"EMBEDMQ_CONFIG"}
        probes = {kind: container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("startup", "liveness", "readiness")}
        assert probes == {"startup": "/ready", "liveness": "/health", "readiness": "/ready"}
        wanted = container["resources"].get("limits", {}).get("nvidia.com/gpu")
        assert wanted == (1 if container["image"].endswith("-cuda") else None)


def test_a_new_configuration_rolls_its_own_pool_only(rendered: Rendered) -> None:
    """By the checksum of what the pool's workers would read."""

    def sums(*settings: str) -> dict[str, str]:
        found = only(rendered(CHART / "ci" / "gpu.yaml", *settings), "Deployment")
        return {thing["metadata"]["name"]: thing["spec"]["template"]["metadata"]["annotations"] for thing in found}

    before, after = sums(), sums("pools.small.config.worker.max_batch_ms=100")
    assert [pool for pool in before if before[pool] != after[pool]] == ["mq-embedmq-small"]


def test_a_pool_without_workers_is_woken_by_every_topic_that_it_reads(rendered: Rendered) -> None:
    """Kafka's lag of each lane's topics and of the retry topics: the names that workers and producers use."""
    (scaled,) = only(rendered(CHART / "ci" / "keda-prometheus.yaml"), "ScaledObject")
    names = Names("staging")
    asked = {
        (trigger["metadata"]["consumerGroup"], trigger["metadata"]["topic"])
        for trigger in scaled["spec"]["triggers"]
        if trigger["type"] == "kafka"
    }
    lanes = {
        (names.group(lane), topic) for lane in LANES for topic in (names.requests("minilm", lane), names.shared(lane))
    }
    assert asked == lanes | {(names.group("retry"), names.retry(delay)) for delay in (10, 300, 7200)}


def test_no_pool_is_woken_by_a_topic_that_nobody_makes(rendered: Rendered) -> None:
    """That of a model which is listed and not served: KEDA takes a topic that is not there for a failure."""
    unserved = "pools.default.models.minilm.served=false"
    (scaled,) = only(rendered(CHART / "ci" / "keda-prometheus.yaml", unserved), "ScaledObject")
    topics = {trigger["metadata"]["topic"] for trigger in scaled["spec"]["triggers"] if trigger["type"] == "kafka"}
    assert not {topic for topic in topics if "minilm" in topic}


@pytest.mark.parametrize(("fewest", "sleeps"), [(0, True), (1, False)])
def test_pools_that_may_have_no_workers_are_labelled_so(rendered: Rendered, fewest: int, sleeps: bool) -> None:
    """Or their alert would wake somebody up whenever they go to sleep."""
    scale = f"pools.default.autoscaling.minReplicas={fewest}"
    (monitor,) = only(rendered(CHART / "ci" / "keda-prometheus.yaml", scale), "PodMonitor")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    found = {rule["targetLabel"]: rule.get("regex") for rule in endpoint["relabelings"]}
    assert found == {"pool": None} | ({"sleeps": "mq-embedmq-default"} if sleeps else {})


def test_keda_asks_each_ready_worker_where_there_is_no_prometheus(rendered: Rendered) -> None:
    """One number of one model and lane at a time, over a service without an address of its own."""
    objects = rendered(CHART / "ci" / "keda-workers.yaml")
    (scaled,), (service,) = only(objects, "ScaledObject"), only(objects, "Service")
    asked = [trigger["metadata"] for trigger in scaled["spec"]["triggers"]]
    assert [(each["valueLocation"], each["aggregationType"]) for each in asked] == [
        ('embedmq_lag_tokens{model="minilm",lane="interactive"}', "sum"),
        ('embedmq_lag_age_seconds{model="minilm",lane="interactive"}', "max"),
    ]
    assert service["spec"]["clusterIP"] == "None"
    assert {each["url"] for each in asked} == {
        f"http://{service['metadata']['name']}.prod.svc.cluster.local:{service['spec']['ports'][0]['port']}/metrics"
    }


def test_the_command_of_the_page_installs_what_it_says(helm: Path) -> None:
    """Rendered instead of installed, with its options as they stand."""
    (options,) = (words[2:] for words in commands() if words[:2] == ["helm", "install"])
    (worker,) = only(documents(tools.run(helm, "template", *options)), "Deployment")
    image = worker["spec"]["template"]["spec"]["containers"][0]["image"]
    assert image == f"registry.example.org/embedmq:{worker['metadata']['labels']['app.kubernetes.io/version']}-cpu"
