"""A Kafka and a Redis that let nobody in without a certificate or a login, nor do anything without a right."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from embedmq_local.data import Data
from embedmq_local.jars import cache_folder, kafka_classpath
from embedmq_local.java import find_java
from embedmq_local.kafka import FORMAT_TIMEOUT_S, Besides, Broker, Jvm
from embedmq_local.port import HOST, Port
from embedmq_local.redis_server import RedisServer
from embedmq_local.server import Server

from tests.security.certificates import Authorities, Papers
from tests.security.rights import Rights
from tests.security.tls_redis import find_tls_redis

USERS: Final = ("worker", "producer", "reader", "operator")
"""Each of them is a user of PLAIN and of both SCRAMs, and can be one by a certificate or a token."""
LISTENERS: Final = {"SASL": "SASL_SSL", "MUTUAL": "SSL", "OUTDATED": "SASL_SSL", "LIMITED": "SASL_SSL"}
MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER")
MODULES: Final = "org.apache.kafka.common.security"


def password(user: str) -> str:
    """What Kafka and Redis know a user by."""
    return f"{user}-s3cret"


def token(user: str, lives_s: float = 600.0) -> str:
    """A token as the broker's default validator takes it: JSON Web Signature with the algorithm `none`."""
    now_s = time.time()
    claims = {"sub": user, "iat": min(now_s, now_s + lives_s) - 1, "exp": now_s + lives_s}
    parts = (json.dumps({"alg": "none"}), json.dumps(claims), "")
    return ".".join(base64.urlsafe_b64encode(part.encode()).decode().rstrip("=") for part in parts)


@dataclass(frozen=True)
class Guarded:
    """Two servers with a plain door each, for administration, and with guarded doors for everybody else."""

    broker: Broker
    redis_server: RedisServer
    redis_port: Port
    authorities: Authorities

    @property
    def kafka(self) -> str:
        """Where users log in by SASL, over TLS."""
        return str(self.broker.listeners["SASL"])

    @property
    def kafka_mutual(self) -> str:
        """Where users show a certificate."""
        return str(self.broker.listeners["MUTUAL"])

    @property
    def kafka_outdated(self) -> str:
        """As `kafka`, but its certificate has expired."""
        return str(self.broker.listeners["OUTDATED"])

    @property
    def kafka_limited(self) -> str:
        """As `kafka`, but for PLAIN only."""
        return str(self.broker.listeners["LIMITED"])

    @property
    def kafka_plain(self) -> str:
        """Where nobody is asked anything and may do all."""
        return self.broker.address

    @property
    def redis(self) -> str:
        """Where users log in, over TLS."""
        return f"rediss://{self.redis_port}/0"

    @property
    def redis_plain(self) -> str:
        """Where nobody is asked anything and may do all."""
        return self.redis_server.url

    @property
    def rights(self) -> Rights:
        """To give and to take rights in Kafka."""
        return Rights(self.kafka_plain)

    def environment(self, user: str, mechanism: str = "SCRAM-SHA-512") -> dict[str, str]:
        """How a user tells a worker, or a command, to reach both."""
        return {
            "EMBEDMQ_KAFKA": self.kafka,
            "EMBEDMQ_KAFKA__TLS": "true",
            "EMBEDMQ_KAFKA__CA_FILE": str(self.authorities.ca),
            "EMBEDMQ_KAFKA__SASL_MECHANISM": mechanism,
            "EMBEDMQ_KAFKA__SASL_USERNAME": user,
            "EMBEDMQ_KAFKA__SASL_PASSWORD": password(user),
            "EMBEDMQ_REDIS": self.redis,
            "EMBEDMQ_REDIS__CA_FILE": str(self.authorities.ca),
            "EMBEDMQ_REDIS__USERNAME": user,
            "EMBEDMQ_REDIS__PASSWORD": password(user),
        }


@contextmanager
def guarded() -> Iterator[Guarded]:
    """Start both; raises StackError where they cannot be had."""
    program, jvm = find_tls_redis(), Jvm(find_java(), kafka_classpath(cache_folder()))
    data, redis_port = Data(None, 1), Port()
    with ExitStack() as stack:
        stack.callback(data.close, keep_logs=False)
        stack.callback(redis_port.close)
        authorities = Authorities(data.folder)
        outdated = authorities.issue("outdated", HOST, expired=True)
        besides = _besides(authorities, outdated)
        acl = data.folder / "users.acl"
        known = "".join(f"user {user} on >{password(user)} ~* &* +@all\n" for user in USERS)
        acl.write_text(f"user default on nopass ~* &* +@all\n{known}")
        broker = Broker(1, jvm, data.cluster, data.folder, data.scratch, besides=besides)
        redis = RedisServer(
            program, data.folder, data.scratch, persistent=False, besides=_guard(authorities, redis_port, acl)
        )
        for server in (broker, redis):
            stack.callback(server.close)
            stack.callback(_end, server)
        broker.configure([broker])
        formatting = broker.format()
        redis.spawn()
        assert formatting is not None
        if formatting.reap(FORMAT_TIMEOUT_S) != 0:
            raise formatting.failure("failed")
        broker.start()
        redis.wait_ready()
        yield Guarded(broker, redis, redis_port, authorities)


def _end(server: Server) -> None:
    if server.running:
        server.stop(kill=True)


def _guard(authorities: Authorities, port: Port, acl: Path) -> dict[str, str]:
    return {
        "tls-port": str(port.number),
        "tls-cert-file": str(authorities.server.cert),
        "tls-key-file": str(authorities.server.key),
        "tls-ca-cert-file": str(authorities.ca),
        "tls-auth-clients": "optional",
        "aclfile": str(acl),
    }


def _besides(authorities: Authorities, outdated: Papers) -> Besides:
    """All that makes the broker ask who is there."""
    known = " ".join(f'user_{user}="{password(user)}"' for user in USERS)
    modules = {
        "plain": f"{MODULES}.plain.PlainLoginModule required {known};",
        "scram-sha-256": f"{MODULES}.scram.ScramLoginModule required;",
        "scram-sha-512": f"{MODULES}.scram.ScramLoginModule required;",
        "oauthbearer": f"{MODULES}.oauthbearer.OAuthBearerLoginModule required;",
    }
    logins = {
        f"listener.name.{listener}.{mechanism}.sasl.jaas.config": module
        for listener in ("sasl", "outdated")
        for mechanism, module in modules.items()
    }
    secrets = [
        word
        for user in USERS
        for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
        for word in ("--add-scram", f"{mechanism}=[name={user},password={password(user)}]")
    ]
    settings = {
        "sasl.enabled.mechanisms": ",".join(MECHANISMS),
        "listener.name.limited.sasl.enabled.mechanisms": "PLAIN",
        "listener.name.limited.plain.sasl.jaas.config": modules["plain"],
        **logins,
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": authorities.server.both,
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": authorities.ca,
        "listener.name.mutual.ssl.client.auth": "required",
        "listener.name.outdated.ssl.keystore.location": outdated.both,
        "ssl.principal.mapping.rules": "RULE:^.*CN=([^,]+).*$/$1/",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "allow.everyone.if.no.acl.found": "false",
    }
    return Besides(LISTENERS, settings, secrets)
