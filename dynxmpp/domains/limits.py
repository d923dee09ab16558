"""What domains may use: the limits of their host type, and what the administration has set for single domains.

Only domains that have something of their own have a row, and an entry in memory on every node. A change is announced
by NOTIFY with the domain's name; who hears it reads the row. After a lost connection all rows are read again.
"""

import json
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from math import inf
from typing import Any, Final

import psycopg2
from twisted.logger import Logger

from dynxmpp.config.limits import LIMITS, Limits
from dynxmpp.core.host_type import HostType
from dynxmpp.core.interfaces import Announcements, Clock, Database, Stored, Transaction
from dynxmpp.db.migrations import Migration
from dynxmpp.domains.errors import DomainNotFound
from dynxmpp.domains.stored_sizes import FULL_AGE_S, StoredFigures, StoredSizes
from dynxmpp.wire.errors import Unavailable

__all__ = ["CHANNEL", "HostTypeLimits", "LimitStore", "Overrides", "in_force"]

#: Where changes are announced; the payload is the domain.
CHANNEL: Final = "dynxmpp_limits"
#: Seconds until what could not be read is read again.
RETRY_S: Final = 5.0
#: Rows of one page of what is read at the start.
PAGE: Final = 10_000

#: Limits by name; `inf` lifts the one of the host type.
Values = Mapping[str, float]

_CREATE: Final = """
CREATE TABLE domain_limits (
    server text COLLATE "C" PRIMARY KEY,
    limits jsonb NOT NULL
)
"""
# A value of null takes the key away.
_CHANGE: Final = """
INSERT INTO domain_limits AS l (server, limits) VALUES (%s, jsonb_strip_nulls(%s::jsonb))
ON CONFLICT (server) DO UPDATE SET limits = jsonb_strip_nulls(l.limits || %s::jsonb) RETURNING limits
"""
_THERE: Final = "SELECT FROM domain_settings WHERE domain = %s AND status <> 2 FOR SHARE"


class LimitStore:
    """The table, in the database of the server's own. All methods raise Unavailable and psycopg2.Error."""

    migrations = (Migration("domain_limits", 1, "domain_limits", _CREATE),)
    stored: Final = Stored("domain_limits", domain="server")

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, after: str, limit: int) -> list[tuple[str, Values]]:
        """At most `limit` domains that have something of their own, by name."""
        rows = await self._database.query(
            "SELECT server, limits FROM domain_limits WHERE server > %s ORDER BY server LIMIT %s", (after, limit)
        )
        return [(server, _read(limits)) for server, limits in rows]

    async def of(self, domains: Collection[str]) -> dict[str, Values]:
        """Those of `domains` that have something of their own."""
        rows = await self._database.query(
            "SELECT server, limits FROM domain_limits WHERE server = ANY(%s)", (list(domains),)
        )
        return {server: _read(limits) for server, limits in rows}

    async def change(self, domain: str, changes: Mapping[str, float | None], *, is_static: bool) -> Values:
        """Sets limits, and takes away those that are None; gives what the domain has then. Raises DomainNotFound."""
        text = json.dumps({name: "infinity" if value == inf else value for name, value in changes.items()})

        async def work(transaction: Transaction) -> Values:
            if not is_static and not await transaction.query(_THERE, (domain,)):
                raise DomainNotFound(domain)
            ((limits,),) = await transaction.query(_CHANGE, (domain, text, text))
            if not limits:
                await transaction.execute("DELETE FROM domain_limits WHERE server = %s", (domain,))
            await transaction.query("SELECT pg_notify(%s, %s)", (CHANNEL, domain))
            return _read(limits)

        return await self._database.transaction(work)

    async def remove(self, domain: str) -> None:
        """Takes away all that a domain has of its own."""
        await self._database.query(
            "WITH gone AS (DELETE FROM domain_limits WHERE server = %s) SELECT pg_notify(%s, %s)",
            (domain, CHANNEL, domain),
        )


class Overrides:
    """What single domains have of their own, in memory. `changed(domain)` is called when it is something else."""

    log = Logger()

    def __init__(
        self,
        store: LimitStore,
        *,
        announcements: Announcements | None,
        clock: Clock,
        spawn: Callable[[str, Awaitable[object]], None],
        changed: Callable[[str], None] = lambda domain: None,
    ) -> None:
        self._store = store
        self._announcements = announcements
        self._clock = clock
        self._spawn = spawn
        self._changed = changed
        self._values: dict[str, Values] = {}
        #: Domains whose row is to be read; None in it stands for all rows.
        self._stale: set[str | None] = set()
        self._reads = False
        self._retry: Any = None
        self._unsubscribe: Callable[[], None] | None = None

    def __len__(self) -> int:
        return len(self._values)

    def of(self, domain: str) -> Values:
        return self._values.get(domain, _NOTHING)

    # -- life

    def listen(self) -> None:
        """Hears of changes from the time when the announcements are there."""
        if self._announcements is not None:
            self._unsubscribe = self._announcements.subscribe(
                CHANNEL, self._look_at, on_reconnect=lambda: self._look_at(None)
            )

    async def start(self) -> None:
        """Reads all; a database that is away is asked again later."""
        self._stale.add(None)
        if not self._reads:
            self._reads = True
            await self._read_stale()

    def stop(self) -> None:
        if self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    # -- changes

    async def change(self, domain: str, changes: Mapping[str, float | None], *, is_static: bool) -> Values:
        """As LimitStore.change; in force on this node when it returns."""
        values = await self._store.change(domain, changes, is_static=is_static)
        self._set(domain, values)
        return values

    async def remove_domain(self, domain: str) -> None:
        """The domain is removed."""
        await self._store.remove(domain)
        self._set(domain, _NOTHING)

    async def remove_account(self, account: object) -> None:
        """Accounts have no limits of their own."""

    def _set(self, domain: str, values: Values) -> None:
        if values == self._values.get(domain, _NOTHING):
            return
        if values:
            self._values[domain] = values
        else:
            del self._values[domain]
        self._changed(domain)

    # -- what other nodes have changed

    def _look_at(self, domain: str | None) -> None:
        """Reads a row soon, or all; what is announced while one is being read is read afterwards."""
        self._stale.add(domain)
        if not self._reads and self._retry is None:
            self._reads = True
            self._spawn("limits_not_read", self._read_stale())

    async def _read_stale(self) -> None:
        try:
            while self._stale:
                stale, self._stale = self._stale, set()
                try:
                    await self._read(stale)
                except (Unavailable, psycopg2.Error) as problem:
                    self._stale |= stale
                    self.log.error("limits_not_read", reason=str(problem), retry_in_s=RETRY_S)
                    self._retry = self._clock.callLater(RETRY_S, self._again)
                    return
        finally:
            self._reads = False

    def _again(self) -> None:
        self._retry = None
        if self._stale:
            self._look_at(next(iter(self._stale)))

    async def _read(self, stale: Collection[str | None]) -> None:
        if None in stale:
            await self._load()
            return
        names = [domain for domain in stale if domain is not None]
        found = await self._store.of(names)
        for domain in names:
            self._set(domain, found.get(domain, _NOTHING))

    async def _load(self) -> None:
        unseen = set(self._values)
        page = await self._store.page("", PAGE)
        while page:
            for domain, values in page:
                unseen.discard(domain)
                self._set(domain, values)
            page = await self._store.page(page[-1][0], PAGE) if len(page) == PAGE else []
        for domain in unseen:
            self._set(domain, _NOTHING)


_NOTHING: Final[Values] = {}


def in_force(defaults: Limits, own: Values) -> dict[str, float]:
    """All limits of a domain by name; `inf` for what has none."""
    return {name: _one(defaults, own, name) for name in LIMITS}


def _one(defaults: Limits, own: Values, name: str) -> float:
    value = own.get(name)
    if value is None:
        value = getattr(defaults, name)
    return inf if value is None else value


class HostTypeLimits:
    """Implements core.interfaces.DomainLimits for a host type. Without `overrides` all its domains have the same.

    `host_type_of` finds the host type of a domain that is served, None for others.
    """

    def __init__(
        self,
        defaults: Limits,
        overrides: Overrides | None = None,
        sizes: StoredSizes | None = None,
        host_type_of: Callable[[str], HostType | None] = lambda domain: None,
    ) -> None:
        self.defaults = defaults
        self._overrides = overrides
        self._sizes = sizes
        self._host_type_of = host_type_of

    def limit(self, domain: str, name: str) -> float:
        return _one(self.defaults, self.own(domain), name)

    def own(self, domain: str) -> Values:
        return _NOTHING if self._overrides is None else self._overrides.of(domain)

    def is_full(self, domain: str, size: int) -> bool | Awaitable[bool]:
        limit = self.limit(domain, "stored_bytes")
        if limit == inf or self._sizes is None or not size:
            return False
        figures = self._sizes.known(domain)
        if figures is None or (_exceeds(figures, size, limit) and self._sizes.known(domain, FULL_AGE_S) is None):
            return self._measure(domain, size, limit)
        return _add(figures, size, limit)

    async def _measure(self, domain: str, size: int, limit: float) -> bool:
        host_type = self._host_type_of(domain)
        if host_type is None or self._sizes is None:
            return False
        return _add(await self._sizes.of(domain, host_type, FULL_AGE_S), size, limit)


def _exceeds(figures: StoredFigures, size: int, limit: float) -> bool:
    return figures.bytes + size > limit


def _add(figures: StoredFigures, size: int, limit: float) -> bool:
    """Was there no room for that?"""
    if _exceeds(figures, size, limit):
        return True
    figures.added += size
    return False


def _read(limits: Mapping[str, Any]) -> Values:
    """What is stored; names that a newer program has added are passed over."""
    return {name: _value(limits[name]) for name in _known(limits)}


def _known(limits: Iterable[str]) -> list[str]:
    return [name for name in limits if name in LIMITS]


def _value(value: Any) -> float:
    return inf if value == "infinity" else value
