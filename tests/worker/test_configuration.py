"""A configuration is right, or one line says which key, which value and which rule."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from embedmq_worker.config import Config
from embedmq_worker.configuration import load, show
from embedmq_worker.errors import ConfigInvalid

MODEL = '[models.m]\ncheckpoint = "null:8"\n'

Load = Callable[..., Config]


@pytest.fixture
def read(tmp_path: Path) -> Load:
    """Reads a file of this text."""

    def read(text: str = MODEL, environ: Mapping[str, str] | None = None) -> Config:
        path = tmp_path / "worker.toml"
        path.write_text(text)
        return load(path, environ or {})

    return read


def test_the_smallest_file_has_the_documented_defaults(read: Load) -> None:
    """One model is all that must be said."""
    config = read()
    assert config.prefix == "embedmq"
    assert config.kafka.bootstrap == ["127.0.0.1:9092"]
    assert config.redis.url == "redis://127.0.0.1:6379/0"
    assert (config.worker.device, config.worker.max_batch_ms, config.worker.http) == ("auto", 50, "127.0.0.1:9464")
    assert config.worker.max_in_flight_bytes == 268_435_456
    assert (config.limits.max_request_bytes, config.limits.max_items) == (900 * 1024, 2_048)
    assert (config.kafka.partitions, config.kafka.max_partition_fetch_bytes) == (8, 256 * 1024)
    assert (config.models["m"].pinned, config.models["m"].shared) == (False, False)


@pytest.mark.parametrize(
    ("text", "key", "value", "rule"),
    [
        ("[worker]\nmax_batch_ms = 0\n" + MODEL, "worker.max_batch_ms", "0", "> 0"),
        ("[worker]\nmax_batch_ms = 'fast'\n" + MODEL, "worker.max_batch_ms", "'fast'", "float"),
        ("[worker]\nmax_batch_ms = nan\n" + MODEL, "worker.max_batch_ms", "nan", "> 0"),
        ("[worker]\nshutdown_grace_s = inf\n" + MODEL, "worker.shutdown_grace_s", "inf", "<= 86400"),
        ("[worker]\nlog_level = 'loud'\n" + MODEL, "worker.log_level", "'loud'", "enum"),
        ("[worker]\nmax_batch_mss = 1\n" + MODEL, "worker", "max_batch_mss", "unknown field"),
        ("[wroker]\nhttp = ''\n" + MODEL, "wroker", "", "unknown field"),
        ("prefix = 'a.b'\n" + MODEL, "prefix", "'a.b'", "regex"),
        ("prefix = 7\n" + MODEL, "prefix", "7", "`str`"),
        ("worker = 7\n" + MODEL, "worker", "7", "table"),
        ("[kafka]\nbootstrap = []\n" + MODEL, "kafka.bootstrap", "[]", ">= 1"),
        ("[kafka]\nbootstrap = ['a:1', 2]\n" + MODEL, "kafka.bootstrap", "2", "`str`"),
        ("[kafka]\nbootstrap = ['host:port']\n" + MODEL, "kafka.bootstrap", "host:port", "HOST:PORT"),
        ("[kafka]\npartitions = 0\n" + MODEL, "kafka.partitions", "0", ">= 1"),
        ("[redis]\nurl = 'http://x'\n" + MODEL, "redis.url", "http://x", "redis://"),
        ("[kafka]\nca_file = '/no/such.pem'\n" + MODEL, "kafka.ca_file", "/no/such.pem", "no such file"),
        ("[redis]\ndefault_keep_s = 0\n" + MODEL, "redis.default_keep_s", "0", ">= 1"),
        ("[limits]\nmax_items = 65537\n" + MODEL, "limits.max_items", "65537", "<= 65536"),
        ("[worker]\nbulk_share = 1.5\n" + MODEL, "worker.bulk_share", "1.5", "<= 1"),
        ("[models.m]\n", "models.m", "", "checkpoint"),
        ("[models.m]\ncheckpoint = 7\n", "models.m.checkpoint", "7", "`str`"),
        (MODEL + "pinned = 'yes'\n", "models.m.pinned", "'yes'", "`bool`"),
        (MODEL + "[models.n]\ncheckpoint = 'null:8'\nmax_tokens = 0\n", "models.n.max_tokens", "0", ">= 1"),
        (MODEL + "pined = true\n", "models.m", "pined", "unknown field"),
        ("[models]\nm = 'null:8'\n", "models.m", "null:8", "table"),
        ("[models.Upper]\ncheckpoint = 'null:8'\n", "models.Upper", "", "lower-case"),
        ("[models.retry]\ncheckpoint = 'null:8'\n", "models.retry", "", "reserved"),
        ("[models]\n", "models", "", "1"),
        ("", "models", "", "at least one"),
        ("[kafka]\nsasl_password = 'hunter2'\n" + MODEL, "kafka.sasl_password", "", "EMBEDMQ_KAFKA__SASL_PASSWORD"),
        ("[redis]\nurl = 'redis://:hunter2@h/0'\n" + MODEL, "redis.url", "", "EMBEDMQ_REDIS"),
        ("not toml", "worker.toml", "", "TOML"),
    ],
    ids=lambda part: None if "\n" not in part else part.replace("\n", " ")[:40],
)  # fmt: skip
def test_what_is_wrong_is_said_in_one_line_with_key_value_and_rule(
    read: Load, text: str, key: str, value: str, rule: str
) -> None:
    """Never a traceback, never a secret."""
    with pytest.raises(ConfigInvalid) as found:
        read(text)
    message = str(found.value)
    assert key in message
    assert value in message
    assert rule in message
    assert "\n" not in message
    assert "hunter2" not in message


@pytest.mark.parametrize(
    ("variable", "text", "key", "rule"),
    [
        ("EMBEDMQ_WORKER__MAX_BATCH_MS", "fast", "worker.max_batch_ms", "float"),
        ("EMBEDMQ_WORKER__MAX_BATCH_MS", "-1", "worker.max_batch_ms", "> 0"),
        ("EMBEDMQ_WORKER__MAX_BATCH_MSS", "1", "max_batch_mss", "unknown field"),
        ("EMBEDMQ_MODELS__M__PINNED", "maybe", "models.m.pinned", "bool"),
        ("EMBEDMQ_MODELS__M", "null:8", "models.m", "table"),
        ("EMBEDMQ_KAFKA", "", "kafka.bootstrap", ">= 1"),
    ],
)
def test_a_wrong_variable_is_said_in_the_same_way(read: Load, variable: str, text: str, key: str, rule: str) -> None:
    """With the setting's own key, since that is what the documentation lists."""
    with pytest.raises(ConfigInvalid) as found:
        read(MODEL, {variable: text})
    assert key in str(found.value)
    assert rule in str(found.value)


def test_the_environment_comes_before_the_file(read: Load) -> None:
    """Every setting as EMBEDMQ_<SECTION>__<KEY>, as the type it has, and four short names."""
    config = read(
        "prefix = 'file'\n[models.bge-small]\ncheckpoint = 'null:8'\n",
        {
            "EMBEDMQ_KAFKA": "a:1, b:2",
            "EMBEDMQ_REDIS": "redis://:secret@h:1/0",
            "EMBEDMQ_PREFIX": "mine",
            "EMBEDMQ_WORKER__MAX_BATCH_MS": "20",
            "EMBEDMQ_WORKER__REPLY_TOPICS": "vectors, more-*",
            "EMBEDMQ_MODELS__BGE_SMALL__PINNED": "true",
            "EMBEDMQ_MODELS__BGE_SMALL__MAX_TOKENS": "128",
            "EMBEDMQ_MODELS__ANOTHER__CHECKPOINT": "null:4",
            "EMBEDMQ_KAFKA__SASL_PASSWORD": "secret",
            "UNRELATED": "x",
        },
    )
    assert config.kafka.bootstrap == ["a:1", "b:2"]
    assert (config.redis.url, config.prefix) == ("redis://:secret@h:1/0", "mine")
    assert config.worker.max_batch_ms == 20.0
    assert config.worker.reply_topics == ["vectors", "more-*"]
    assert set(config.models) == {"bge-small", "another"}
    assert (config.models["bge-small"].pinned, config.models["bge-small"].max_tokens) == (True, 128)
    assert config.kafka.sasl_password == "secret"


def test_what_is_shown_has_no_secret(read: Load) -> None:
    """Neither a password of its own nor one inside a URL."""
    environ = {
        "EMBEDMQ_REDIS": "redis://user:hunter2@h:1/0",
        "EMBEDMQ_KAFKA__SASL_PASSWORD": "hunter2",
        "EMBEDMQ_KAFKA__KEY_PASSWORD": "hunter2",
        "EMBEDMQ_REDIS__PASSWORD": "hunter2",
    }
    text = json.dumps(show(read(MODEL, environ)))
    assert "hunter2" not in text
    assert "user" in text
    assert text.count("***") == 4


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """With the system's reason."""
    with pytest.raises(ConfigInvalid, match=r"nothing\.toml: No such file"):
        load(tmp_path / "nothing.toml", {})
