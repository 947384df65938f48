"""Which certificates do the tests' servers and clients show, and whom do they trust?"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import trustme
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from embedmq_local.port import HOST

LONG_AGO = datetime.now(UTC) - timedelta(days=2)


@dataclass(frozen=True)
class Papers:
    """One certificate, with those that vouch for it, and its key: a file each for Python and Redis, one for Kafka."""

    cert: Path
    key: Path
    both: Path


class Authorities:
    """One that all trust, and one that nobody does; everything lies in one folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._trusted, self._stranger = trustme.CA(), trustme.CA()
        self.ca = folder / "ca.pem"
        self._trusted.cert_pem.write_to_path(str(self.ca))
        self.stranger_ca = folder / "stranger-ca.pem"
        self._stranger.cert_pem.write_to_path(str(self.stranger_ca))
        self.server = self.issue("server", HOST)

    def issue(self, name: str, *hosts: str, expired: bool = False, trusted: bool = True) -> Papers:
        """A certificate for hosts, or for a client of this common name; issued again it takes the place of the old."""
        authority = self._trusted if trusted else self._stranger
        until = LONG_AGO + timedelta(days=1) if expired else None
        identities = hosts or (f"{name}@example.org",)
        made = authority.issue_cert(*identities, common_name=name, not_before=LONG_AGO, not_after=until)
        key = load_pem_private_key(made.private_key_pem.bytes(), None)
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())  # the only form that Kafka reads
        chain = b"".join(blob.bytes() for blob in made.cert_chain_pems)
        papers = Papers(*(self._folder / f"{name}-{part}.pem" for part in ("cert", "key", "both")))
        papers.cert.write_bytes(chain)
        papers.key.write_bytes(pem)
        papers.both.write_bytes(pem + chain)
        return papers
