"""What domains have used, summed over nodes: a row for each domain and month, and the figures of its last day.

Counts are kept in memory (core.usage) and added to the table every minute, in one statement for all domains that have
changed. A batch has an id that is written with it: one that is written again, because nobody knows whether it had been
committed, counts once. Days and months are those of UTC.
"""

import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import psycopg2
from twisted.internet.defer import DeferredLock
from twisted.logger import Logger

from dynxmpp.core.interfaces import Clock, Database, Stored
from dynxmpp.core.usage import Count, UsageCounters
from dynxmpp.db.arrays import array
from dynxmpp.db.migrations import Migration
from dynxmpp.wire.errors import Unavailable

__all__ = ["PERIOD_S", "UsageRecorder", "UsageStore", "Used"]

#: Seconds between two additions to the table.
PERIOD_S: Final = 60.0
#: Domains of one statement.
BATCH: Final = 10_000

_CREATE: Final = """
CREATE TABLE domain_usage (
    server text COLLATE "C" NOT NULL,
    month date NOT NULL,
    messages bigint NOT NULL,
    bytes bigint NOT NULL,
    day date NOT NULL,
    day_messages bigint NOT NULL,
    day_bytes bigint NOT NULL,
    PRIMARY KEY (server, month)
) WITH (fillfactor = 80);
CREATE INDEX domain_usage_month ON domain_usage (month, server);
CREATE TABLE domain_usage_batch (
    id uuid PRIMARY KEY,
    written_at timestamptz NOT NULL DEFAULT now()
);
"""

# What was counted of a domain that has gone meanwhile must not be left for who gets the name next. In the order of the
# names, so that two nodes do not wait for each other.
_ADD: Final = """
WITH fresh AS (
    INSERT INTO domain_usage_batch (id) VALUES (%s) ON CONFLICT DO NOTHING RETURNING id
), old AS (
    DELETE FROM domain_usage_batch WHERE written_at < now() - interval '7 days'
)
INSERT INTO domain_usage AS u (server, month, messages, bytes, day, day_messages, day_bytes)
SELECT q.server, date_trunc('month', d.day)::date, q.messages, q.bytes, d.day, q.messages, q.bytes
FROM fresh, (SELECT %s::date AS day) AS d,
    unnest(%s::text[], %s::bigint[], %s::bigint[], %s::boolean[]) AS q (server, messages, bytes, dynamic)
WHERE {there}
ORDER BY q.server
ON CONFLICT (server, month) DO UPDATE SET
    messages = u.messages + excluded.messages,
    bytes = u.bytes + excluded.bytes,
    day = greatest(u.day, excluded.day),
    day_messages = CASE WHEN u.day > excluded.day THEN u.day_messages WHEN u.day < excluded.day
        THEN excluded.day_messages ELSE u.day_messages + excluded.day_messages END,
    day_bytes = CASE WHEN u.day > excluded.day THEN u.day_bytes WHEN u.day < excluded.day
        THEN excluded.day_bytes ELSE u.day_bytes + excluded.day_bytes END
"""
_DYNAMIC: Final = "NOT q.dynamic OR EXISTS (SELECT FROM domain_settings WHERE domain = q.server AND status <> 2)"
_COLUMNS: Final = """
SELECT server, messages, bytes, CASE WHEN day = %s THEN day_messages ELSE 0 END,
    CASE WHEN day = %s THEN day_bytes ELSE 0 END
FROM domain_usage WHERE month = date_trunc('month', %s::date)::date
"""


@dataclass(frozen=True, slots=True)
class Used:
    """Messages, and bytes of their contents, of a month and of the last day of it that is asked for."""

    messages: int = 0
    bytes: int = 0
    day_messages: int = 0
    day_bytes: int = 0

    def plus(self, count: Count) -> "Used":
        """With what was counted today and is not written yet."""
        return Used(
            self.messages + count.messages,
            self.bytes + count.bytes,
            self.day_messages + count.messages,
            self.day_bytes + count.bytes,
        )


@dataclass(frozen=True, slots=True)
class _Batch:
    id: str
    day: date
    counts: Sequence[Count]


class UsageStore:
    """The table, in the database of the server's own. All methods raise Unavailable and psycopg2.Error."""

    migrations = (Migration("domain_usage", 1, "domain_usage", _CREATE),)
    stored: Final = Stored("domain_usage", domain="server")

    def __init__(self, database: Database, *, has_dynamic: bool) -> None:
        """`has_dynamic`: are there the tables of dynamic domains in this database?"""
        self._database = database
        self._add = _ADD.format(there=_DYNAMIC if has_dynamic else "true")

    async def add(self, batch: _Batch, is_static: Callable[[str], bool]) -> None:
        """Adds a batch, unless that has been done."""
        counts = batch.counts
        values = (
            array(count.domain for count in counts),
            array(count.messages for count in counts),
            array(count.bytes for count in counts),
            array(not is_static(count.domain) for count in counts),
        )
        await self._database.execute(self._add, (batch.id, batch.day, *values))

    async def of_domain(self, domain: str, day: date) -> Used:
        """The month of `day`, and `day` itself."""
        rows = await self._database.query(f"{_COLUMNS} AND server = %s", (day, day, day, domain))
        return Used(*rows[0][1:]) if rows else Used()

    async def between(self, after: str, upto: str | None, day: date) -> dict[str, Used]:
        """As `of_domain`, of all domains with names behind `after`, and not behind `upto`."""
        sql, values = f"{_COLUMNS} AND server > %s", [day, day, day, after]
        if upto is not None:
            sql, values = f"{sql} AND server <= %s", [*values, upto]
        return {row[0]: Used(*row[1:]) for row in await self._database.query(sql, values)}

    async def remove(self, domain: str) -> None:
        await self._database.execute("DELETE FROM domain_usage WHERE server = %s", (domain,))


class UsageRecorder:
    """Adds what this node counts to the table, and says what is in it.

    `is_static`: is a domain served that stands in the configuration file?
    """

    log = Logger()

    def __init__(
        self,
        store: UsageStore,
        counters: UsageCounters,
        *,
        is_static: Callable[[str], bool],
        clock: Clock,
        spawn: Callable[[str, Awaitable[object]], None],
    ) -> None:
        self.store = store
        self._counters = counters
        self._is_static = is_static
        self._clock = clock
        self._spawn = spawn
        self._lock = DeferredLock()
        self._unwritten: deque[_Batch] = deque()
        #: The day to which the counts in memory belong.
        self._day = self.today()
        self._timer: Any = None

    # -- life

    def start(self) -> None:
        self._later()

    async def stop(self) -> None:
        """Writes what there is. A database that is away loses it: that is logged."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await self.flush()
        if self._unwritten:
            lost = sum(count.messages for batch in self._unwritten for count in batch.counts)
            self.log.error("usage_lost", messages=lost)

    def _later(self) -> None:
        """A day's counts are taken when it ends."""
        now = datetime.fromtimestamp(self._clock.seconds(), UTC)
        midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        self._timer = self._clock.callLater(min(PERIOD_S, (midnight - now).total_seconds()), self._tick)

    def _tick(self) -> None:
        self._later()
        self._spawn("usage_flush_failed", self.flush())

    def today(self) -> date:
        return datetime.fromtimestamp(self._clock.seconds(), UTC).date()

    # -- writing

    async def flush(self) -> None:
        """Writes what was counted; what the database does not take now is written the next time."""
        self._take()
        await self._lock.acquire()
        try:
            while self._unwritten:
                await self.store.add(self._unwritten[0], self._is_static)
                self._unwritten.popleft()
        except (Unavailable, psycopg2.Error) as problem:
            self.log.error("usage_not_written", reason=str(problem), retry_in_s=PERIOD_S)
        finally:
            self._lock.release()

    def _take(self) -> None:
        """Makes batches of what was counted. While others wait, counts of the same day stay together in memory."""
        today = self.today()
        if self._unwritten and today == self._day:
            return
        counts = self._counters.take()
        for start in range(0, len(counts), BATCH):
            self._unwritten.append(_Batch(str(uuid.uuid4()), self._day, counts[start : start + BATCH]))
        self._day = today

    # -- reading

    async def of_domain(self, domain: str) -> Used:
        """This month and this day: what all nodes have written, and what this one has counted since."""
        return self._with_current(domain, await self.store.of_domain(domain, self.today()))

    async def between(self, after: str, upto: str | None, served: Iterable[str]) -> Mapping[str, Used]:
        """The same of all domains in a range of names that have used something; `served` are those of this node."""
        found = await self.store.between(after, upto, self.today())
        for domain in served:
            if self._counters.active(domain):
                found[domain] = self._with_current(domain, found.get(domain, Used()))
        return found

    def _with_current(self, domain: str, used: Used) -> Used:
        return used.plus(self._counters.current(domain)) if self._day == self.today() else used

    # -- the end of a domain

    async def remove_domain(self, domain: str) -> None:
        """The domain is removed: what was counted of it goes too."""
        self._counters.forget(domain)
        await self._lock.acquire()
        try:
            await self.store.remove(domain)
        finally:
            self._lock.release()

    async def remove_account(self, account: object) -> None:
        """Nothing is counted by account."""
