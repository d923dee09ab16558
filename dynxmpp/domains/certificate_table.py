"""The table domain_certificates. SQL only; what a row must be is checked by those who write it.

Each change is one transaction, which announces it: the payload is the domain.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from dynxmpp.core.interfaces import Database, Stored, Transaction
from dynxmpp.db.migrations import Migration
from dynxmpp.domains.errors import DomainDeleted, DomainNotFound, NoCertificate, UnknownHostType
from dynxmpp.domains.store import DomainStatus

__all__ = ["CHANNEL", "CertificateRow", "CertificateTable"]

#: The channel on which a change is announced.
CHANNEL: Final = "dynxmpp_certificates"

_MIGRATIONS: Final = (
    Migration(
        component="domain_certificates",
        version=1,
        name="domain_certificates",
        sql="""
            CREATE TABLE domain_certificates (
                domain text COLLATE "C" PRIMARY KEY,
                chain text NOT NULL,
                key text NOT NULL,
                not_after timestamptz NOT NULL,
                changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
            );
        """,
    ),
)

# Each change of a row is later than the one before, also where the clock is not: the time tells rows apart.
_WRITE: Final = """
    INSERT INTO domain_certificates AS present (domain, chain, key, not_after) VALUES (%s, %s, %s, %s)
    ON CONFLICT (domain) DO UPDATE SET
        chain = excluded.chain, key = excluded.key, not_after = excluded.not_after,
        changed_at = greatest(clock_timestamp(), present.changed_at + interval '1 microsecond')
    RETURNING domain, chain, key, not_after, changed_at, pg_notify(%s, domain)
"""


@dataclass(frozen=True, slots=True)
class CertificateRow:
    """A row. `chain` (leaf first) and `key` are PEM; `changed_at` differs from that of any other row of the domain."""

    domain: str
    chain: str
    key: str = field(repr=False)
    not_after: datetime
    changed_at: datetime


class CertificateTable:
    """The table, in the pool `db`, which has that of the domains too. All methods may raise Unavailable."""

    migrations = _MIGRATIONS
    stored = (Stored("domain_certificates", "domain"),)

    def __init__(self, db: Database) -> None:
        self._db = db

    async def write(
        self, domain: str, chain: str, key: str, not_after: datetime, accepts: Callable[[str], bool]
    ) -> CertificateRow:
        """The new row. Raises DomainNotFound, UnknownHostType when `accepts(host type)` says no, DomainDeleted."""

        async def work(transaction: Transaction) -> CertificateRow:
            await _require(transaction, domain, accepts)
            (row,) = await transaction.query(_WRITE, (domain, chain, key, not_after, CHANNEL))
            return CertificateRow(*row[:-1])

        return await self._db.transaction(work)

    async def delete(self, domain: str, accepts: Callable[[str], bool]) -> bool:
        """Was there a row? Raises as `write`."""

        async def work(transaction: Transaction) -> bool:
            await _require(transaction, domain, accepts)
            rows = await transaction.query(
                "DELETE FROM domain_certificates WHERE domain = %s RETURNING pg_notify(%s, domain)", (domain, CHANNEL)
            )
            return bool(rows)

        return await self._db.transaction(work)

    async def chain_of(self, domain: str) -> str:
        """Raises NoCertificate, DomainNotFound."""
        rows = await self._db.query(
            "SELECT c.chain FROM domain_settings s LEFT JOIN domain_certificates c USING (domain) WHERE domain = %s",
            (domain,),
        )
        if not rows:
            raise DomainNotFound(domain)
        chain: str | None = rows[0][0]
        if chain is None:
            raise NoCertificate(domain)
        return chain

    async def announce(self, domain: str) -> None:
        """Tells all nodes to look at the domain again."""
        await self._db.query("SELECT pg_notify(%s, %s)", (CHANNEL, domain))

    async def changes(self, after: str, limit: int) -> list[tuple[str, datetime]]:
        """(domain, time of the last change) of domains after `after`, by name."""
        rows: list[Any] = await self._db.query(
            "SELECT domain, changed_at FROM domain_certificates WHERE domain > %s ORDER BY domain LIMIT %s",
            (after, limit),
        )
        return rows

    async def rows(self, domains: Sequence[str]) -> list[CertificateRow]:
        """Of those domains that have one."""
        rows = await self._db.query(
            "SELECT domain, chain, key, not_after, changed_at FROM domain_certificates WHERE domain = ANY(%s)",
            (list(domains),),
        )
        return [CertificateRow(*row) for row in rows]


async def _require(transaction: Transaction, domain: str, accepts: Callable[[str], bool]) -> None:
    """Locks the domain's row: once it is marked for removal, no certificate of it comes in any more."""
    rows = await transaction.query(
        "SELECT host_type, status FROM domain_settings WHERE domain = %s FOR SHARE", (domain,)
    )
    if not rows:
        raise DomainNotFound(domain)
    ((host_type, status),) = rows
    if not accepts(host_type):
        raise UnknownHostType(host_type)
    if status == DomainStatus.DELETING:
        raise DomainDeleted(domain)
