"""BatchWriter: many rows, one statement.

Rows gather while the last batch is in flight, and for at most `gather_s` when nothing is. A row a statement costs
1,650 rows/s on the development machine, 100 rows a statement 32,000.

A batch is written again until it is committed, whatever ails the database: a connection that was lost, a disk that
is full, a server that has become a standby. Nobody knows then whether it was committed after all, so the statement must
take a row twice without harm (ON CONFLICT DO NOTHING on a key that the writer's user chose). Only a row that can never
be written fails, alone.
"""

from collections import deque
from collections.abc import Sequence
from typing import Protocol

import psycopg2
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from dynxmpp.commit import CommitTicket
from dynxmpp.db.arrays import columns
from dynxmpp.wire.errors import Unavailable

FIRST_RETRY_S = 0.1
MAX_RETRY_S = 5.0
#: What a row itself can be guilty of.
BAD_ROW = (psycopg2.DataError, psycopg2.IntegrityError, ValueError, TypeError)

Row = tuple[object, ...]
_Entry = tuple[Row, CommitTicket, int]


class Executes(Protocol):
    """The part of a pool that the writer needs."""

    async def execute(self, sql: str, params: Sequence[object] = ()) -> int: ...


class BatchWriter:
    """Writes rows of one table; in the order of `write()`.

    `statement` takes one array a column: `INSERT ... SELECT * FROM unnest(%s::text[], %s::bytea[]) ON CONFLICT ...`.
    """

    log = Logger()

    def __init__(
        self,
        database: Executes,
        statement: str,
        *,
        clock: IReactorTime,
        max_rows: int = 200,
        max_waiting: int = 10_000,
        max_waiting_bytes: int = 64 << 20,
        gather_s: float = 0.002,
    ) -> None:
        """`max_rows` bounds a batch; `max_waiting`, `max_waiting_bytes` what is not committed yet."""
        self._database = database
        self._statement = statement
        self._clock = clock
        self._max_rows = max_rows
        self._max_waiting = max_waiting
        self._max_waiting_bytes = max_waiting_bytes
        self._gather_s = gather_s
        self._waiting: list[_Entry] = []
        self._running = False
        #: Rows that were taken since the start, those of them that are dealt with, and the bytes of the others.
        self._taken = 0
        self._settled = 0
        self._bytes = 0
        self._flushing: deque[tuple[int, Deferred[None]]] = deque()
        self._pause: Deferred[None] | None = None
        self._stopping = False

    def write(self, row: Row, ticket: CommitTicket, size: int = 0) -> None:
        """Takes a row; `ticket` is held until it is committed. `size`: its bytes, where they matter.

        Raises Unavailable when too much waits already.
        """
        if (
            self._stopping
            or self._taken - self._settled >= self._max_waiting
            or self._bytes + size > self._max_waiting_bytes
        ):
            raise Unavailable("too many rows wait to be written")
        ticket.hold()
        self._taken += 1
        self._bytes += size
        self._waiting.append((row, ticket, size))
        if not self._running:
            self._running = True
            Deferred.fromCoroutine(self._run())

    async def flush(self) -> None:
        """Returns when every row that was taken before is committed, or has failed; later ones are not waited for."""
        if self._settled < self._taken:
            settled: Deferred[None] = Deferred()
            self._flushing.append((self._taken, settled))
            await settled

    async def stop(self) -> None:
        """Writes what has been taken and takes no more. What cannot be written now fails: it was never acknowledged."""
        self._stopping = True
        if self._pause is not None:
            self._pause.cancel()
        await self.flush()

    async def _run(self) -> None:
        await deferLater(self._clock, self._gather_s)
        while self._waiting:
            batch = self._waiting[: self._max_rows]
            del self._waiting[: self._max_rows]
            await self._write(batch)
        self._running = False

    async def _write(self, batch: list[_Entry]) -> None:
        retry_s = FIRST_RETRY_S
        while True:
            try:
                await self._database.execute(self._statement, columns([row for row, _, _ in batch]))
            except BAD_ROW as problem:
                if len(batch) == 1:
                    self._settle(batch, problem)
                    return
                for entry in batch:
                    await self._write([entry])
                return
            except Exception as problem:  # noqa: BLE001 - border: a fault that ended the writer would hold all that follows
                if not isinstance(problem, Unavailable | psycopg2.Error | CancelledError):
                    self.log.failure("batch_failed", rows=len(batch))
                if self._stopping:
                    self._settle(batch, problem)
                    return
                self.log.warn("batch_retried", rows=len(batch), reason=str(problem))
                await self._sleep(retry_s)
                retry_s = min(2 * retry_s, MAX_RETRY_S)
            else:
                self._settle(batch)
                return

    def _settle(self, batch: list[_Entry], problem: Exception | None = None) -> None:
        """The batch is committed, or never will be."""
        if problem is not None:
            self.log.error("rows_not_written", rows=len(batch), reason=str(problem))
        self._settled += len(batch)
        self._bytes -= sum(size for _, _, size in batch)
        for _, ticket, _ in batch:
            if problem is None:
                ticket.release()
            else:
                ticket.fail()
        while self._flushing and self._flushing[0][0] <= self._settled:
            self._flushing.popleft()[1].callback(None)

    async def _sleep(self, seconds: float) -> None:
        self._pause = deferLater(self._clock, seconds)
        try:
            await self._pause
        except CancelledError:
            pass  # stop() wants one more attempt at once
        finally:
            self._pause = None
