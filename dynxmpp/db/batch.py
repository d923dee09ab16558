"""BatchWriter: many rows, one statement.

Rows gather while the last batch is in flight, and for at most `gather_s` when nothing is. A row a statement costs
1,650 rows/s on the development machine, 100 rows a statement 32,000.

A batch is written again when the connection was lost and nobody knows whether it had been committed: the statement must
take a row twice without harm (ON CONFLICT DO NOTHING on a key that the writer's user chose).
"""

from collections.abc import Sequence
from typing import Protocol

import psycopg2
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger

from dynxmpp.commit import CommitTicket
from dynxmpp.wire.errors import Unavailable

FIRST_RETRY_S = 0.1
MAX_RETRY_S = 5.0

Row = tuple[object, ...]


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
        gather_s: float = 0.002,
    ) -> None:
        """`max_rows` bounds a batch, `max_waiting` the rows that are not committed yet."""
        self._database = database
        self._statement = statement
        self._clock = clock
        self._max_rows = max_rows
        self._max_waiting = max_waiting
        self._gather_s = gather_s
        self._waiting: list[tuple[Row, CommitTicket]] = []
        self._in_flight = 0
        self._running = False
        self._settled: list[Deferred[None]] = []
        self._pause: Deferred[None] | None = None
        self._stopping = False

    def write(self, row: Row, ticket: CommitTicket) -> None:
        """Takes a row; `ticket` is held until it is committed. Raises Unavailable when too much waits already."""
        if self._stopping or len(self._waiting) + self._in_flight >= self._max_waiting:
            raise Unavailable("too many rows wait to be written")
        ticket.hold()
        self._waiting.append((row, ticket))
        if not self._running:
            self._running = True
            Deferred.fromCoroutine(self._run())

    async def flush(self) -> None:
        """Returns when every row that was taken before is committed, or has failed."""
        if self._running:
            settled: Deferred[None] = Deferred()
            self._settled.append(settled)
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
            self._in_flight = len(batch)
            await self._write(batch)
            self._in_flight = 0
        self._running = False
        settled, self._settled = self._settled, []
        for deferred in settled:
            deferred.callback(None)

    async def _write(self, batch: list[tuple[Row, CommitTicket]]) -> None:
        retry_s = FIRST_RETRY_S
        while True:
            try:
                await self._database.execute(
                    self._statement, [list(column) for column in zip(*(row for row, _ in batch), strict=True)]
                )
            except Unavailable as problem:
                if self._stopping:
                    self._fail(batch, problem)
                    return
                self.log.warn("batch_retried", rows=len(batch), reason=str(problem))
                await self._sleep(retry_s)
                retry_s = min(2 * retry_s, MAX_RETRY_S)
            except (psycopg2.Error, ValueError) as problem:
                await self._write_singly(batch, problem)
                return
            else:
                for _, ticket in batch:
                    ticket.release()
                return

    async def _write_singly(self, batch: list[tuple[Row, CommitTicket]], problem: Exception) -> None:
        """One bad row must not take the others with it."""
        if len(batch) == 1:
            self._fail(batch, problem)
            return
        for entry in batch:
            await self._write([entry])

    def _fail(self, batch: list[tuple[Row, CommitTicket]], problem: Exception) -> None:
        self.log.error("rows_not_written", rows=len(batch), reason=str(problem))
        for _, ticket in batch:
            ticket.fail()

    async def _sleep(self, seconds: float) -> None:
        self._pause = deferLater(self._clock, seconds)
        try:
            await self._pause
        except CancelledError:
            pass  # stop() wants one more attempt at once
        finally:
            self._pause = None
