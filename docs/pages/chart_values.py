"""Of what types are the values of the Helm chart?"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from embedmq_worker.config import Model
from msgspec import UNSET, Meta, Struct, UnsetType

Keyed = dict[str, object]
Amount = Annotated[int, Meta(ge=1)]
Text = Annotated[str, Meta(min_length=1)]
PoolName = Annotated[str, Meta(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$")]


class Closed(Struct, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """Any of these may be left out, no other may be there."""


class Settings(Closed):
    """Stands for the worker's own settings, less what the chart itself fills in."""


class Image(Closed):
    repository: Text | UnsetType = UNSET
    tag: str | UnsetType = UNSET
    pull_policy: Literal["Always", "IfNotPresent", "Never"] | UnsetType = UNSET
    pull_secrets: list[str] | UnsetType = UNSET


class KafkaValues(Closed):
    bootstrap: Annotated[list[Text], Meta(min_length=1)] | UnsetType = UNSET
    tls: bool | UnsetType = UNSET
    tls_secret: str | UnsetType = UNSET
    client_certificate: bool | UnsetType = UNSET
    sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | UnsetType = UNSET
    credentials_secret: str | UnsetType = UNSET


class RedisValues(Closed):
    url: Annotated[str, Meta(pattern="^rediss?://[^@]+$")] | UnsetType = UNSET
    tls_secret: str | UnsetType = UNSET
    client_certificate: bool | UnsetType = UNSET
    credentials_secret: str | UnsetType = UNSET


class HuggingFace(Closed):
    token_secret: str | UnsetType = UNSET


class CacheVolume(Closed):
    type: Literal["emptyDir", "persistentVolumeClaim", "hostPath"] | UnsetType = UNSET
    size: Text | UnsetType = UNSET
    storage_class: str | UnsetType = UNSET
    access_mode: Literal["ReadWriteOnce", "ReadWriteOncePod", "ReadWriteMany"] | UnsetType = UNSET
    existing_claim: str | UnsetType = UNSET
    host_path: Annotated[str, Meta(pattern="^/")] | UnsetType = UNSET


class Lanes(Closed):
    interactive: Amount | None = None
    bulk: Amount | None = None


class Autoscaling(Closed):
    enabled: bool | UnsetType = UNSET
    min_replicas: Annotated[int, Meta(ge=0)] | UnsetType = UNSET
    max_replicas: Amount | UnsetType = UNSET
    tokens_per_replica: Lanes | UnsetType = UNSET
    age_seconds: Lanes | UnsetType = UNSET


class PoolDefaults(Closed):
    device: Literal["cpu", "cuda"] | UnsetType = UNSET
    gpus: Amount | UnsetType = UNSET
    replicas: Annotated[int, Meta(ge=0)] | UnsetType = UNSET
    config: Settings | UnsetType = UNSET
    resources: Keyed | UnsetType = UNSET
    node_selector: dict[str, str] | UnsetType = UNSET
    tolerations: list[Keyed] | UnsetType = UNSET
    affinity: Keyed | UnsetType = UNSET
    spread_over: str | UnsetType = UNSET
    priority_class_name: str | UnsetType = UNSET
    pod_annotations: dict[str, str] | UnsetType = UNSET
    env: list[Keyed] | UnsetType = UNSET
    max_surge: Annotated[int, Meta(ge=0)] | str | UnsetType = UNSET
    max_unavailable: Annotated[int, Meta(ge=0)] | str | UnsetType = UNSET
    startup_seconds: Amount | UnsetType = UNSET
    cache: CacheVolume | UnsetType = UNSET
    autoscaling: Autoscaling | UnsetType = UNSET


class Pool(PoolDefaults, kw_only=True):
    models: Annotated[dict[str, Model], Meta(min_length=1)]


class Disruption(Closed):
    enabled: bool | UnsetType = UNSET
    max_unavailable: Annotated[int, Meta(ge=0)] | str | UnsetType = UNSET


class Account(Closed):
    existing: str | UnsetType = UNSET
    annotations: dict[str, str] | UnsetType = UNSET


class Network(Closed):
    enabled: bool | UnsetType = UNSET
    metrics_from: list[Keyed] | UnsetType = UNSET
    egress: list[Keyed] | UnsetType = UNSET


class Monitoring(Closed):
    pod_monitor: bool | UnsetType = UNSET
    interval: Text | UnsetType = UNSET
    rules: bool | UnsetType = UNSET
    dashboard: bool | UnsetType = UNSET
    labels: dict[str, str] | UnsetType = UNSET


class ScaleUp(Closed):
    pods: Amount | UnsetType = UNSET
    percent: Amount | UnsetType = UNSET


class Keda(Closed):
    source: Literal["prometheus", "workers"] | UnsetType = UNSET
    prometheus_address: Annotated[str, Meta(pattern="^https?://")] | UnsetType = UNSET
    polling_seconds: Amount | UnsetType = UNSET
    cooldown_seconds: Amount | UnsetType = UNSET
    scale_down_seconds: Annotated[int, Meta(ge=0, le=3600)] | UnsetType = UNSET
    scale_up: ScaleUp | UnsetType = UNSET
    kafka_version: Text | UnsetType = UNSET


class Values(Closed):
    """The whole file; `global` is what Helm adds where this chart is part of another."""

    image: Image | UnsetType = UNSET
    kafka: KafkaValues | UnsetType = UNSET
    redis: RedisValues | UnsetType = UNSET
    hugging_face: HuggingFace | UnsetType = UNSET
    config: Settings | UnsetType = UNSET
    pools: Annotated[dict[PoolName, Pool], Meta(min_length=1)] | UnsetType = UNSET
    pool_defaults: PoolDefaults | UnsetType = UNSET
    roll_on_config_change: bool | UnsetType = UNSET
    pod_disruption_budget: Disruption | UnsetType = UNSET
    service_account: Account | UnsetType = UNSET
    network_policy: Network | UnsetType = UNSET
    monitoring: Monitoring | UnsetType = UNSET
    keda: Keda | UnsetType = UNSET
    global_: Keyed | UnsetType = msgspec.field(default=UNSET, name="global")
