"""Messages go when they are too old, or too many: options of the operator's, off unless they are set.

Ids are times, so what goes is always the old end of an archive. Each node does this for the domains that it serves;
what one has removed, another does not find any more.
"""

from collections.abc import Callable, Sequence
from math import isinf
from typing import Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger

from dynxmpp.module import ModuleContext, Transaction, Unavailable
from dynxmpp.modules.mam.config import RetentionOptions
from dynxmpp.modules.mam.ids import first_of

#: Seconds from the start of the server to the first check.
FIRST_S: Final = 60.0
#: Archives that are looked at in one statement.
BATCH_ARCHIVES: Final = 500
#: Messages that one statement passes over at most to find those that are too many.
BATCH_PASSED: Final = 200_000
#: Messages that one statement removes.
BATCH_ROWS: Final = 1000
_DAY_S: Final = 86_400

_ARCHIVES: Final = "SELECT id, server FROM mam_archive WHERE kind = %s AND id > %s ORDER BY id LIMIT %s"
_AGED: Final = """
SELECT a.id FROM unnest(%s::integer[]) AS a (id)
WHERE EXISTS (SELECT FROM mam_message AS m WHERE m.archive = a.id AND m.id < %s)
"""
_SURPLUS: Final = """
SELECT a.id, m.id FROM unnest(%s::integer[]) AS a (id) CROSS JOIN LATERAL (
    SELECT id FROM mam_message WHERE archive = a.id ORDER BY id DESC OFFSET %s LIMIT 1
) AS m
"""
# Who takes words out of messages holds this lock as well, so that no words of messages that are gone are left.
_LOCK: Final = "SELECT FROM mam_archive WHERE id = %s FOR UPDATE"
_DELETE: Final = """
WITH gone AS (
    DELETE FROM mam_message WHERE archive = %s AND id IN (
        SELECT id FROM mam_message WHERE archive = %s AND id < %s ORDER BY id LIMIT %s
    ) RETURNING id
), words AS (
    DELETE FROM mam_search WHERE archive = %s AND id IN (SELECT id FROM gone)
)
SELECT count(*) FROM gone
"""


class Retention:
    """Keeps the archives of one kind (schema.ACCOUNT, schema.ROOM) within their bounds, now and then."""

    log = Logger()

    def __init__(
        self,
        context: ModuleContext,
        kind: int,
        options: RetentionOptions,
        *,
        forget: Callable[[int], None],
        batch_rows: int = BATCH_ROWS,
    ) -> None:
        """`forget(archive)` is called when messages of an archive were removed."""
        self._database = context.database
        self._domains = context.domains
        self._host_type = context.host_type
        self._clock = context.clock
        self._kind = kind
        self._options = options
        self._forget = forget
        self._batch_rows = batch_rows
        self._task: Deferred[None] | None = None

    def start(self) -> None:
        """Checks from now on, if there is a bound at all."""
        if not (isinf(self._options.max_age_days) and isinf(self._options.max_messages)):
            self._task = Deferred.fromCoroutine(self._run())
            self._task.addErrback(lambda failure: failure.trap(CancelledError) and None)

    def stop(self) -> None:
        """Ends it at once; what is not removed yet is left to the next start."""
        if self._task is not None:
            self._task.cancel()

    async def _run(self) -> None:
        await deferLater(self._clock, min(FIRST_S, self._options.check_interval))
        while True:
            try:
                await self.check()
            except Unavailable as problem:
                self.log.warn("retention_postponed", host_type=self._host_type.name, reason=str(problem))
            except Exception:  # noqa: BLE001 - border of a background task: the next check may go better
                self.log.failure("retention_failed", host_type=self._host_type.name)
            await deferLater(self._clock, self._options.check_interval)

    async def check(self) -> int:
        """Looks at all archives once; the number of messages that were removed. Raises Unavailable."""
        removed, last = 0, 0
        while rows := await self._database.query(_ARCHIVES, (self._kind, last, BATCH_ARCHIVES)):
            last = rows[-1][0]
            bounds = await self._bounds([archive for archive, server in rows if self._serves(server)])
            for archive, bound in bounds.items():
                removed += await self._remove(archive, bound)
        if removed:
            self.log.info("messages_expired", host_type=self._host_type.name, messages=removed)
        return removed

    def _serves(self, server: str) -> bool:
        served = self._domains.get(server)
        return served is not None and served.host_type is self._host_type

    async def _bounds(self, archives: Sequence[int]) -> dict[int, int]:
        """The archives that have too much, each with the first id that may stay."""
        bounds: dict[int, int] = {}
        if archives and not isinf(self._options.max_age_days):
            bound = first_of(int((self._clock.seconds() - self._options.max_age_days * _DAY_S) * 1_000_000))
            rows = await self._database.query(_AGED, (archives, bound))
            bounds = {archive: bound for (archive,) in rows}
        if not isinf(self._options.max_messages):
            kept = int(self._options.max_messages)
            size = max(1, min(BATCH_ARCHIVES, BATCH_PASSED // kept))
            for begin in range(0, len(archives), size):
                for archive, surplus in await self._database.query(_SURPLUS, (archives[begin : begin + size], kept)):
                    bounds[archive] = max(bounds.get(archive, 0), surplus + 1)
        return bounds

    async def _remove(self, archive: int, bound: int) -> int:
        async def batch(transaction: Transaction) -> int:
            await transaction.query(_LOCK, (archive,))
            rows = await transaction.query(_DELETE, (archive, archive, bound, self._batch_rows, archive))
            count: int = rows[0][0]
            return count

        removed = 0
        while True:
            count = await self._database.transaction(batch)
            if count:
                removed += count
                self._forget(archive)
            if count < self._batch_rows:
                return removed
