"""How are Kafka and Redis reached, by producers and workers alike?"""

from __future__ import annotations

import contextlib
import re
import ssl
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self, TypedDict
from urllib.parse import unquote, urlsplit

from msgspec import Meta, Struct, field

SECRETS: Final = frozenset({"sasl_password", "password", "key_password"})
"""Settings that come from the environment only and are never shown."""

REDACTED: Final = "***"
MAX_PORT: Final = 65_535


class KafkaConnection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where the brokers are and how they let us in."""

    bootstrap: Annotated[list[str], Meta(min_length=1)] = field(default_factory=lambda: ["127.0.0.1:9092"])
    """Brokers to ask first, `host:port`."""
    tls: bool = False
    """Encrypt, and check the broker's certificate against `ca_file` or the system's authorities."""
    ca_file: str | None = None
    """Authorities to trust, PEM; the system's own when not given."""
    cert_file: str | None = None
    """Our certificate, PEM, for brokers that ask for one."""
    key_file: str | None = None
    """The key of `cert_file`, PEM."""
    key_password: str | None = None
    """Opens `key_file`. Secret: from the environment only."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None = None
    """How to log in; no login when not given."""
    sasl_username: str | None = None
    """Who logs in."""
    sasl_password: str | None = None
    """The password of `sasl_username`. Secret: from the environment only."""
    sasl_token_file: str | None = None
    """For OAUTHBEARER: the file that holds the token, read again at each login, as Kubernetes projects them."""

    def options(self) -> dict[str, object]:
        """The keyword arguments that every aiokafka client takes, but for the one that gives tokens.

        Raises:
            OSError: a PEM file cannot be read.
            ValueError: a login lacks its user or password.
        """
        protocol = ("SASL_" if self.sasl_mechanism else "") + ("SSL" if self.tls else "PLAINTEXT")
        options: dict[str, object] = {"bootstrap_servers": list(self.bootstrap), "security_protocol": protocol}
        if self.tls:
            options["ssl_context"] = RotatingContext(self.ca_file, self.cert_file, self.key_file, self.key_password)
        if self.sasl_mechanism:
            if self.sasl_mechanism != "OAUTHBEARER" and (self.sasl_username is None or self.sasl_password is None):
                missing = "sasl_password" if self.sasl_username is not None else "sasl_username"
                raise ValueError(
                    f"sasl_mechanism = {self.sasl_mechanism!r} wants {missing}: set EMBEDMQ_KAFKA__{missing.upper()}"
                )
            options["sasl_mechanism"] = self.sasl_mechanism
            options["sasl_plain_username"] = self.sasl_username
            options["sasl_plain_password"] = self.sasl_password
        return options


class TokenFile:
    """Gives aiokafka the token that a file holds just now; who imports aiokafka derives its provider from this."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    async def token(self) -> str:
        """The token, without white space around it; raises OSError."""
        return self._path.read_text(encoding="ascii").strip()

    def extensions(self) -> dict[str, str]:
        """Nothing besides."""
        return {}


class Brief(ssl.SSLObject):
    """Says goodbye and does not wait for the answer, as RFC 8446 (6.1) allows: a broker gives it only when it has
    answered what it was asked before, and a fetch that finds nothing may be held for half a minute.
    """

    def unwrap(self) -> None:
        """Called by asyncio and uvloop when a connection is closed and all that was written has gone out."""
        with contextlib.suppress(ssl.SSLWantReadError):
            super().unwrap()


class RotatingContext(ssl.SSLContext):
    """Verifies the other side, and reads its files anew for each connection: a certificate that was renewed on disk is
    shown from the next connection on. Files that are just being written, or broken, leave in use what was read before.
    """

    sslobject_class = Brief
    ca_file: str | None
    cert_file: str | None
    key_file: str | None
    key_password: str | None

    def __new__(cls, ca: str | None, cert: str | None, key: str | None, password: str | None) -> Self:
        """Raises OSError (ssl.SSLError is one) when a file cannot be read or key and certificate do not fit."""
        context = super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)  # checks certificate and host name
        context.ca_file, context.cert_file, context.key_file, context.key_password = ca, cert, key, password
        context._load(context)
        if ca is None:
            context.load_default_certs()
        return context

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """Called by asyncio and uvloop for each new connection."""
        with contextlib.suppress(OSError):
            self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))  # half a pair would spoil what is in use
            self._load(self)
        return super().wrap_bio(*args, **kwargs)

    def _load(self, into: ssl.SSLContext) -> None:
        if self.ca_file is not None:
            into.load_verify_locations(self.ca_file)
        if self.cert_file is not None:
            into.load_cert_chain(self.cert_file, self.key_file, self.key_password)


class RedisOptions(TypedDict, total=False):
    """Keyword arguments of a redis-py client."""

    username: str
    password: str
    ssl_ca_certs: str | None
    ssl_certfile: str | None
    ssl_keyfile: str | None


class RedisConnection(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where Redis is and how it lets us in."""

    url: str = "redis://127.0.0.1:6379/0"
    """`redis://` or, with TLS, `rediss://`; a password belongs into the environment."""
    username: str | None = None
    """The ACL user."""
    password: str | None = None
    """The ACL user's password. Secret: from the environment only."""
    ca_file: str | None = None
    """Authorities to trust, PEM; the system's own when not given."""
    cert_file: str | None = None
    """Our certificate, PEM, for a server that asks for one."""
    key_file: str | None = None
    """The key of `cert_file`, PEM."""

    def options(self) -> RedisOptions:
        """The keyword arguments that `redis.asyncio.from_url` takes besides the URL."""
        options = RedisOptions()
        if self.username is not None:
            options["username"] = self.username
        if self.password is not None:
            options["password"] = self.password
        if self.url.startswith("rediss://"):
            options["ssl_ca_certs"] = self.ca_file
            options["ssl_certfile"] = self.cert_file
            options["ssl_keyfile"] = self.key_file
        return options


def url_fault(url: str) -> str | None:
    """What keeps a URL from being read in one way only, with nothing of it repeated; its scheme is for the caller.

    A password with `/`, `?` or `#` would end where nobody meant it to, and its rest be a host, database or query.
    """
    if _parts(url) is not None:
        return None
    return (
        "expected redis://HOST:PORT/DB, with a port to 65535 and a number as DB; "
        "a password that holds one of / ? # [ ] or a blank has to be percent-encoded, or set as EMBEDMQ_REDIS__PASSWORD"
    )


def redact_url(url: str) -> str:
    """A URL that may be shown: without its password, and with nothing but its scheme where it cannot be understood."""
    parts = _parts(url)
    if parts is None or ("@" in url and "://" not in url):
        scheme = _SCHEME.match(url)
        return f"{scheme[0] if scheme else ''}{REDACTED}"
    start, end = parts.span("password")
    return url if start < 0 else f"{url[:start]}{REDACTED}{url[end:]}"


_SCHEME: Final = re.compile(r"[a-z]+://")
_URL: Final = re.compile(
    r"""(?:[a-z]+://)?
    (?:(?P<user>[^\s/?#\[\]:]*)(?::(?P<password>[^\s/?#\[\]]*))?@)?
    (?:(?P<host>[^\s/?#\[\]@:]+|\[[\da-fA-F:.]+\])(?::(?P<port>\d{1,5}))?(?:/\d*)?|(?<=//|.@)/[^\s?#\[\]@]+)
    (?:\?(?P<query>[^\s#@]*))?""",
    re.VERBOSE | re.ASCII,
)
"""A server's URL, or that of a socket's path; what stands before an `@` is nothing but the login."""


def _parts(url: str) -> re.Match[str] | None:
    parts = _URL.fullmatch(url)
    if parts is None or not url.isprintable() or int(parts["port"] or 0) > MAX_PORT:
        return None
    if "password" in unquote(parts["query"] or ""):  # with an & in it, it would end early
        return None
    try:
        urlsplit(url)  # refuses letters that stand for / ? # @ : in another form
    except ValueError:
        return None
    return parts
