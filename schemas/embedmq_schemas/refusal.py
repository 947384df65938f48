"""What does it mean that Kafka or Redis does not let us in, and what is to be done?"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, Protocol, TypeVar

PROBE_TIMEOUT_S: Final = 2.0


class Refusal(NamedTuple):
    """What is wrong and what to do, in half a line each; `lasting` if it will not pass by itself."""

    what: str
    remedy: str
    lasting: bool

    def __str__(self) -> str:
        return f"{self.what}: {self.remedy}"


_LOGIN: Final = "check user and password, or the token"
_BY_NAME: Final = {
    # aiokafka's, by name: this package knows neither Kafka nor Redis
    "SaslAuthenticationFailed": ("the login is refused", _LOGIN, True),
    "UnsupportedSaslMechanismError": (
        "this listener does not offer the sasl_mechanism",
        "name one that it offers: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or OAUTHBEARER",
        True,
    ),
    "IllegalSaslStateError": ("this listener asks for no login", "leave out sasl_mechanism, or use another port", True),
    # redis-py's
    "AuthenticationError": ("the login is refused", _LOGIN, True),
    "NoPermissionError": ("", "have the ACL of this user allow it: docs/security.md lists what each needs", True),
}
_CLOSED: Final = frozenset({"KafkaConnectionError", "ConnectionResetError", "IncompleteReadError"})


class Connection(Protocol):
    """Whatever can be closed."""

    def close(self) -> object: ...


_C = TypeVar("_C", bound=Connection)


async def probe(
    connect: Callable[[], Awaitable[_C]], ask: Callable[[_C], Awaitable[object]], *, tls: bool, mechanism: str | None
) -> Refusal | None:
    """Try to connect to a broker and to ask something, since clients only log why they cannot; None if it goes well.

    A token that is refused is not told apart by aiokafka: it takes the broker's complaint for a welcome, and then gets
    no answer. A login that was left out is noticed by the first question only.
    """
    connected = False
    try:
        async with asyncio.timeout(PROBE_TIMEOUT_S):
            connection = await connect()
            connected = True
            try:
                await ask(connection)
            finally:
                connection.close()
    except (OSError, RuntimeError, ValueError) as error:  # aiokafka's are RuntimeErrors
        if connected and mechanism == "OAUTHBEARER":
            return Refusal("the login is refused", "check the token, and that it has not expired", True)
        return explain(error, tls=tls) or Refusal(
            str(error) or "no answer", "check address and user, and that it runs", False
        )
    return None


def explain(error: BaseException, *, tls: bool) -> Refusal | None:
    """Read an error of aiokafka, redis-py or Python's ssl, by itself or by its cause; `tls` if that was asked for.

    None for what is no refusal: nobody there, no answer.
    """
    seen: BaseException | None = error
    while seen is not None:
        if (found := _explain(seen, tls=tls)) is not None:
            return found
        seen = seen.__cause__ or seen.__context__
    return None


def _explain(error: BaseException, *, tls: bool) -> Refusal | None:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _certificate(error)
    if isinstance(error, ssl.SSLError):
        reason = str(error.reason or "").lower().replace("_", " ")
        if "certificate" in reason or "unknown ca" in reason:
            return Refusal(f"our certificate is refused ({reason})", "check cert_file, and who vouches for it", True)
        return Refusal(f"no TLS comes about ({reason})", "has this port TLS? else leave it out, or use another", False)
    if isinstance(error, OSError) and error.filename is not None:
        return Refusal(
            f"{error.filename} cannot be read ({error.strerror})", "check the path and who may read it", True
        )
    name = type(error).__name__
    if name in _BY_NAME:
        what, remedy, lasting = _BY_NAME[name]
        own = str(error).removeprefix(f"[Error {getattr(error, 'errno', '')}] {name}: ")
        return Refusal(what if name.startswith(("Illegal", "Unsupported")) else _join(what, own), remedy, lasting)
    if name in _CLOSED and (tls or "closed" in str(error) or "reset" in str(error)):
        if tls:
            return Refusal("the connection is closed", "has this port TLS, and does it want a certificate?", False)
        return Refusal("the connection is closed", "does this port want TLS, or a login?", False)
    return None


def _certificate(error: ssl.SSLCertVerificationError) -> Refusal:
    """By OpenSSL's X509_V_ERR_*: https://docs.openssl.org/3.0/man3/X509_STORE_CTX_get_error/"""
    match error.verify_code:
        case 10:
            return Refusal("its certificate has expired", "have it renewed, or set the clock of this machine", True)
        case 9:
            return Refusal("its certificate is not valid yet", "set the clock of this machine", True)
        case 62 | 64:
            who = error.verify_message.partition("not valid for ")[2].rstrip(".") or "this host"
            return Refusal(
                f"its certificate is not for {who}", "use the name that it is for, or have it reissued", True
            )
        case _:
            return Refusal(
                f"nobody whom we trust vouches for its certificate ({error.verify_message})",
                "name the authority in ca_file",
                True,
            )


def _join(what: str, own: str) -> str:
    return f"{what} ({own.rstrip('.')})" if what and own else what or own.rstrip(".")
