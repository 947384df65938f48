"""How do a file and the environment become a configuration, and what is said when they cannot?"""

from __future__ import annotations

import re
import tomllib
import types
import typing
from collections.abc import Mapping
from pathlib import Path

import msgspec
from embedmq_schemas.connection import REDACTED, SECRETS, redact_url, url_fault
from embedmq_schemas.environment import overrides
from embedmq_schemas.names import is_model_name

from embedmq_worker.config import ANYBODY, Config, Model
from embedmq_worker.errors import ConfigInvalid

Tree = dict[str, object]

_STEP: typing.Final = re.compile(r"\.\.\.|[^.\[\]`]+")
"""One step of the path in msgspec's message: a key, an index, or `...` for any name."""
_ADDRESS: typing.Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\s]+)(:\d{1,5})?")
_HTTP: typing.Final = ("http://", "https://")
_SCHEMES: typing.Final = ("redis://", "rediss://", "unix://")


def load(path: Path | None, environ: Mapping[str, str]) -> Config:
    """Read the file, lay the environment over it, check everything.

    Raises:
        ConfigInvalid: naming key, value and rule.
    """
    tree = _read(path) if path else {}
    _refuse_secrets(tree, ())
    for key, text in overrides(environ).items():
        _lay(tree, key, text)
    try:
        config = msgspec.convert(tree, Config)
    except msgspec.ValidationError as error:
        raise _explain(error, tree) from None
    _check(config)
    return config


def show(config: Config) -> Tree:
    """The configuration as plain values, secrets replaced."""
    tree: Tree = msgspec.to_builtins(config)
    for section in tree.values():
        if isinstance(section, dict):
            for key in SECRETS & section.keys():
                section[key] = REDACTED if section[key] else None
    redis = typing.cast("Tree", tree["redis"])
    redis["url"] = redact_url(config.redis.url)
    return tree


def _check(config: Config) -> None:
    """The rules that types cannot say."""
    for name in config.models:
        if not is_model_name(name):
            raise ConfigInvalid(f"models.{name}: a model's name is lower-case letters, digits and dashes, not reserved")
    if not config.models:
        raise ConfigInvalid("models: at least one [models.NAME] with a checkpoint is needed")
    if ANYBODY in config.tenants and config.tenants[ANYBODY].topics:
        raise ConfigInvalid(f'tenants."{ANYBODY}".topics: topics belong to a tenant by name')
    if any("@" in address for address in config.kafka.bootstrap):  # it may be a password: nothing of it is shown
        raise ConfigInvalid("kafka.bootstrap: HOST:PORT has no place for a login: set kafka.sasl_username and its like")
    for address in config.kafka.bootstrap:
        if not _ADDRESS.fullmatch(address):
            raise ConfigInvalid(f"kafka.bootstrap = {address!r}: expected HOST:PORT")
    if not config.redis.url.startswith(_SCHEMES):
        raise ConfigInvalid(f"redis.url = {redact_url(config.redis.url)!r}: expected {' or '.join(_SCHEMES)}")
    if (fault := url_fault(config.redis.url)) is not None:
        raise ConfigInvalid(f"redis.url: {fault}")
    endpoint = config.tracing.endpoint
    if endpoint is not None and (not endpoint.startswith(_HTTP) or "@" in endpoint):
        rule = "expected http(s)://HOST:PORT/PATH, without a login: that goes to OTEL_EXPORTER_OTLP_HEADERS"
        raise ConfigInvalid(f"tracing.endpoint: {rule}")
    for section, settings in (("kafka", config.kafka), ("redis", config.redis)):
        for key in ("ca_file", "cert_file", "key_file"):
            file: str | None = getattr(settings, key)
            if file is not None and not Path(file).is_file():
                raise ConfigInvalid(f"{section}.{key} = {file!r}: no such file")


def _read(path: Path) -> Tree:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigInvalid(f"{path}: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"{path} is not TOML: {error}") from None


def _refuse_secrets(tree: Tree, above: tuple[str, ...]) -> None:
    for key, value in tree.items():
        path = (*above, key)
        if isinstance(value, dict):
            _refuse_secrets(value, path)
        elif (key in SECRETS and value) or (path == ("redis", "url") and _has_login(str(value))):
            variable = "EMBEDMQ_REDIS" if path == ("redis", "url") else "EMBEDMQ_" + "__".join(path).upper()
            raise ConfigInvalid(f"{'.'.join(path)}: a file holds no secrets: set {variable} in the environment instead")


def _has_login(url: str) -> bool:
    """Whether there is a password, or what may be one."""
    return redact_url(url) != url and ("@" in url or "password" in url)


def _lay(tree: Tree, key: tuple[str, ...], text: str) -> None:
    """Put one value of the environment at its place, as the type which that place wants."""
    if key[0] == "models":
        models = tree.get("models")
        known = models if isinstance(models, dict) else {}
        # a variable's name cannot hold a dash: the model meant is the one whose name differs in nothing else
        name = next((name for name in known if name.replace("-", "_") == key[1]), key[1])
        key = ("models", name, *key[2:])
    node = tree
    for part in key[:-1]:
        child = node.setdefault(part, {})
        if not isinstance(child, dict):
            raise ConfigInvalid(f"{part} = {child!r}: must be a table")
        node = child
    node[key[-1]] = _convert(key, text)


def _convert(key: tuple[str, ...], text: str) -> object:
    kind: object = Config
    for part in key:
        kind = _child(kind, part)
        if kind is None:
            return text  # the strict decoder will name the unknown key
    entries = [entry.strip() for entry in text.split(",") if entry.strip()]
    written: object = entries if typing.get_origin(_bare(kind)) is list else text
    try:
        value: object = msgspec.convert(written, typing.cast("type[object]", kind), strict=False)
    except msgspec.ValidationError as error:
        raise ConfigInvalid(f"{'.'.join(key)} = {text!r} (from the environment): {_lower(str(error))}") from None
    return value


def _child(kind: object, name: str) -> object | None:
    kind = _bare(kind)
    if typing.get_origin(kind) is dict:
        return typing.cast("object", typing.get_args(kind)[1])
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return typing.get_type_hints(kind, include_extras=True).get(name)
    return None


def _bare(kind: object) -> object:
    """A type without its bounds and without `| None`."""
    if typing.get_origin(kind) is typing.Annotated:
        return _bare(typing.get_args(kind)[0])
    if isinstance(kind, types.UnionType):
        return _bare(next(part for part in kind.__args__ if part is not type(None)))
    return kind


def _explain(error: msgspec.ValidationError, tree: Tree) -> ConfigInvalid:
    rule, _, place = str(error).partition(" - at `$")
    keys: list[str] = []
    node: object = tree
    for key in _STEP.findall(place):
        if isinstance(node, dict):
            # of a table whose names are free, msgspec does not say which
            name = next(name for name, value in node.items() if not _is_model(value)) if key == "..." else key
            keys.append(name)
            node = node.get(name)
        elif isinstance(node, list):
            node = node[int(key)]
    where = ".".join(keys) or "the file"
    value = "" if isinstance(node, dict) or node is None or keys[-1] in SECRETS else f" = {node!r}"
    return ConfigInvalid(f"{where}{value}: {_lower(rule)}")


def _is_model(value: object) -> bool:
    try:
        msgspec.convert(value, Model)
    except msgspec.ValidationError:
        return False
    return True


def _lower(rule: str) -> str:
    """A rule of msgspec's in this page's words."""
    return (rule[:1].lower() + rule[1:]).replace("object", "table")
