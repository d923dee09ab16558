"""The domains' own certificates in the memory of a node, kept as the table is.

TLS asks for a certificate in the middle of a handshake, where nobody can wait. So a node has the texts of all of them,
about 4 KiB each; what is made of them is made when a client comes. Who changes a row has it here before the call
returns. The other nodes hear of it, and read the row; after announcements may have been lost all rows are compared.

Whatever is read or written of a row goes into memory in the order of the commits: both happen under one lock.
"""

from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Final, TypeVar

import psycopg2
from twisted.internet.defer import CancelledError, Deferred, DeferredLock
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from dynxmpp.core.domain_table import DomainTable
from dynxmpp.core.interfaces import Announcements, Clock, Database
from dynxmpp.domains.certificate_table import CHANNEL, CertificateRow, CertificateTable
from dynxmpp.domains.errors import NoCertificate
from dynxmpp.jid import JID, InvalidJID, prepare_domain
from dynxmpp.tls.certificates import server_name
from dynxmpp.tls.checks import CertificateFacts, check_certificate, facts_of, leaf_of
from dynxmpp.tls.names import CertificateNames
from dynxmpp.tls.stored import StoredPem
from dynxmpp.wire.errors import Unavailable

__all__ = ["WARN_BEFORE", "DomainCertificates"]

#: How long before its end a certificate is spoken of, once a day.
WARN_BEFORE: Final = timedelta(days=21)
_DAY_S: Final = 24 * 3600.0
#: Rows of one page: their names when all are compared, their texts when they are read.
PAGE_ROWS: Final = 500
_FIRST_RETRY_S: Final = 1.0
_MAX_RETRY_S: Final = 30.0

T = TypeVar("T")


class _Entry:
    """A row. Its names are read when a service of the domain is first asked for."""

    def __init__(self, row: CertificateRow) -> None:
        self.pem = StoredPem(server_name(row.domain) or row.domain, row.chain, row.key)
        self.not_after = row.not_after
        self.changed_at = row.changed_at

    @cached_property
    def names(self) -> CertificateNames:
        return CertificateNames.of(leaf_of(self.pem.chain))


class DomainCertificates:
    """The certificates of dynamic domains (StoredCertificates of TLS). Domains are given prepared.

    `table` says which names are services of which domain. Without `announcements` only this node's changes are seen.
    All that waits may raise Unavailable or psycopg2.Error.
    """

    log = Logger()

    def __init__(
        self,
        db: Database,
        table: DomainTable[Any],
        *,
        clock: Clock,
        announcements: Announcements | None = None,
        page_rows: int = PAGE_ROWS,
    ) -> None:
        self._rows = CertificateTable(db)
        self._domains = table
        self._clock = clock
        self._announcements = announcements
        self._page_rows = page_rows
        self._entries: dict[str, _Entry] = {}
        self._lock = DeferredLock()
        self._running = False
        self._unsubscribe: Callable[[], None] | None = None
        # What is to be read: some rows, or all.
        self._pending: set[str] = set()
        self._all_pending = True
        self._reads = False
        self._following: Deferred[Any] | None = None
        self._pause: Deferred[None] | None = None
        self._daily = LoopingCall(self._warn_of_ends)
        self._daily.clock = clock

    # -- life

    def listen(self) -> None:
        """Hears announcements from now on. Who calls it before their connection is made misses none until `start`."""
        if self._announcements is not None and self._unsubscribe is None:
            self._unsubscribe = self._announcements.subscribe(CHANNEL, self._announced, on_reconnect=self._missed)

    async def start(self) -> None:
        """Returns when all certificates are in memory, however long the database is away; `stop()` ends it."""
        if self._running:
            return
        self._running = True
        self.listen()
        self._missed()
        if self._following is not None:
            await self._following
        if self._running:
            self._daily.start(_DAY_S)

    async def stop(self) -> None:
        """Hears nothing more. What is in memory goes on being shown."""
        self._running = False
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        if self._daily.running:
            self._daily.stop()
        if self._pause is not None:
            self._pause.cancel()
        if self._reads and self._following is not None:
            await self._following

    # -- for TLS

    def find(self, name: str) -> StoredPem | None:
        """That of the domain `name`; for the name of a service that of its domain, if it is for the service too.

        A static domain has none here: what is left of the time when it was dynamic does not count.
        """
        if not self._entries:
            return None
        try:
            domain = prepare_domain(name)
        except InvalidJID:
            return None
        owner = self._domains.owner(domain)
        entry = None if self._domains.is_static(owner) else self._entries.get(owner)
        if entry is None or (owner != domain and not self._covers(owner, entry, name)):
            return None
        return entry.pem

    def _covers(self, owner: str, entry: _Entry, name: str) -> bool:
        try:
            return entry.names.covers(name)
        except Exception:  # noqa: BLE001 - border: asked by OpenSSL, past which no exception gets; rows can be edited
            self.log.failure("certificate_names_unreadable", domain=owner)
            return False

    # -- changes

    async def put(self, domain: str, chain: str, key: str) -> None:
        """New connections get this certificate, on this node from now on. `chain` and `key`: PEM.

        Raises CertificateError, DomainNotFound, UnknownHostType, DomainDeleted.
        """
        checked = check_certificate(chain, key, domain, now=self._now())

        async def write() -> None:
            row = (domain, checked.chain, checked.key, checked.not_after)
            self._set(await self._rows.write(*row, self._domains.accepts))

        await self._locked(write)
        self.log.info("certificate_stored", domain=domain, not_after=checked.not_after.isoformat())

    async def delete(self, domain: str) -> None:
        """Raises NoCertificate, DomainNotFound, UnknownHostType, DomainDeleted."""

        async def delete() -> bool:
            was_there = await self._rows.delete(domain, self._domains.accepts)
            self._entries.pop(domain, None)
            return was_there

        if not await self._locked(delete):
            raise NoCertificate(domain)
        self.log.info("certificate_deleted", domain=domain)

    async def describe(self, domain: str) -> tuple[CertificateFacts, int]:
        """What is stored, and how many days it has left. Raises NoCertificate, DomainNotFound."""
        facts = facts_of(leaf_of(await self._rows.chain_of(domain)))
        return facts, (facts.not_after - self._now()).days

    # -- when a domain is removed (Forgetful)

    async def remove_domain(self, domain: str) -> None:
        """The row is gone; here this is seen before the call returns, and the other nodes are told."""
        await self._rows.announce(domain)
        await self._locked(lambda: self._read([domain]))

    async def remove_account(self, account: JID) -> None:
        """No account has anything here."""

    # -- what others have changed

    def _announced(self, domain: str) -> None:
        self._pending.add(domain)
        self._follow_soon()

    def _missed(self) -> None:
        self._all_pending = True
        self._follow_soon()

    def _follow_soon(self) -> None:
        if self._running and not self._reads:
            self._reads = True
            self._following = Deferred.fromCoroutine(self._follow())
            self._following.addErrback(self._crashed)

    def _crashed(self, failure: Failure) -> Failure | None:
        if failure.check(CancelledError):
            return failure  # whoever waits for it has done that
        self.log.failure("certificates_not_followed", failure=failure)
        return None

    async def _follow(self) -> None:
        """Until nothing is to be read; what cannot be read is tried again, with growing pauses."""
        pause_s = _FIRST_RETRY_S
        try:
            while self._running and (self._all_pending or self._pending):
                if await self._read_pending(pause_s):
                    pause_s = _FIRST_RETRY_S
                elif self._running:
                    self._pause = deferLater(self._clock, pause_s)
                    await self._pause
                    pause_s = min(2 * pause_s, _MAX_RETRY_S)
        except CancelledError:
            if self._running:
                raise
        finally:
            self._pause = None
            self._reads = False

    async def _read_pending(self, retry_in_s: float) -> bool:
        everything, self._all_pending = self._all_pending, False
        domains, self._pending = self._pending, set()
        try:
            await self._locked(self._compare_all if everything else lambda: self._read(domains))
        except (Unavailable, psycopg2.Error) as error:
            self._all_pending |= everything
            self._pending |= domains
            self.log.error("certificates_not_read", reason=str(error), retry_in_s=retry_in_s)
            return False
        return True

    async def _compare_all(self) -> None:
        """Reads the rows that are not as they are here, and forgets what has none."""
        unseen, after = set(self._entries), ""
        while True:
            page = await self._rows.changes(after, self._page_rows)
            unseen.difference_update(domain for domain, _ in page)
            await self._read([domain for domain, changed_at in page if not self._has(domain, changed_at)])
            if len(page) < self._page_rows:
                break
            after = page[-1][0]
        for domain in unseen:
            self._entries.pop(domain, None)

    async def _read(self, domains: Collection[str]) -> None:
        """What the rows of these domains are now."""
        wanted = list(domains)
        for first in range(0, len(wanted), self._page_rows):
            page = wanted[first : first + self._page_rows]
            rows = await self._rows.rows(page)
            for gone in set(page).difference(row.domain for row in rows):
                self._entries.pop(gone, None)
            for row in rows:
                self._set(row)

    def _set(self, row: CertificateRow) -> None:
        if not self._has(row.domain, row.changed_at):
            self._entries[row.domain] = _Entry(row)

    def _has(self, domain: str, changed_at: datetime) -> bool:
        entry = self._entries.get(domain)
        return entry is not None and entry.changed_at == changed_at

    async def _locked(self, work: Callable[[], Awaitable[T]]) -> T:
        await self._lock.acquire()
        try:
            return await work()
        finally:
            self._lock.release()

    # -- the end of certificates

    def __len__(self) -> int:
        return len(self._entries)

    def ending(self) -> int:
        """How many have expired, or will within WARN_BEFORE."""
        limit = self._now() + WARN_BEFORE
        return sum(entry.not_after <= limit for entry in self._entries.values())

    def _warn_of_ends(self) -> None:
        now = self._now()
        for domain, entry in self._entries.items():
            left = entry.not_after - now
            if left <= WARN_BEFORE:
                event = "certificate_expired" if left < timedelta() else "certificate_expires"
                self.log.warn(event, domain=domain, not_after=entry.not_after.isoformat(), days_left=left.days)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.seconds(), UTC)
