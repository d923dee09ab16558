"""LookupCombiner: many callers' look-ups, one statement.

Look-ups gather while a statement is in flight, and otherwise until the reactor has dealt with what it has read: whoever
asks in the same turn shares a statement, and nobody waits for company that may not come. A statement has a price of its
own, whatever it looks up: 150 us of this process, and 400 us of PostgreSQL, which plans it.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from dynxmpp.db.arrays import columns
from dynxmpp.wire.errors import Unavailable

Row = tuple[Any, ...]


class Queries(Protocol):
    """The part of a pool that look-ups need."""

    async def query(self, sql: str, params: Sequence[object] = ()) -> list[tuple[Any, ...]]: ...
    def call_soon(self, function: Callable[[], None]) -> None: ...


class LookupCombiner:
    """One statement that answers many at a time.

    `sql` takes one array a parameter, and gives rows that begin with the number (from 1) of the look-up that they
    answer:

        SELECT q.n, found.* FROM unnest(%s::int[], %s::text[]) WITH ORDINALITY AS q (archive, remote, n)
        CROSS JOIN LATERAL (SELECT ... WHERE archive = q.archive ... ORDER BY id LIMIT 10) AS found

    Rows of one look-up are handed on in the order in which they come.
    """

    def __init__(self, database: Queries, sql: str, *, max_rows: int = 100, max_in_flight: int = 1) -> None:
        """`max_rows` bounds the look-ups of a statement, `max_in_flight` the statements at a time."""
        self._database = database
        self._sql = sql
        self._max_rows = max_rows
        self._max_in_flight = max_in_flight
        self._in_flight = 0
        self._is_due = False
        self._waiting: list[tuple[Row, Deferred[list[Row]]]] = []

    async def lookup(self, params: Row) -> list[Row]:
        """The rows for these parameters, without their number.

        Raises what the statement raises, as everybody does who was in the same one; of Unavailable all hear who were in
        line behind it. It goes on when one of them is cancelled.
        """
        # A Deferred that is cancelled takes itself out of the line; one whose statement runs is only not told.
        answer: Deferred[list[Row]] = Deferred()
        self._waiting.append((params, answer))
        if not self._is_due and self._in_flight < self._max_in_flight:
            self._is_due = True
            self._database.call_soon(self._send)
        return await answer

    def _send(self) -> None:
        self._is_due = False
        while self._waiting and self._in_flight < self._max_in_flight:
            batch = [entry for entry in self._waiting[: self._max_rows] if not entry[1].called]
            del self._waiting[: self._max_rows]
            if batch:
                self._in_flight += 1
                Deferred.fromCoroutine(self._ask(batch))

    async def _ask(self, batch: list[tuple[Row, Deferred[list[Row]]]]) -> None:
        answers: list[list[Row]] = [[] for _ in batch]
        failure: Failure | None = None
        last_behind = self._waiting[-1] if self._waiting else None
        try:
            for number, *row in await self._database.query(self._sql, columns([params for params, _ in batch])):
                answers[number - 1].append(tuple(row))
        except Exception:  # noqa: BLE001 - border: it goes to everybody who asked
            failure = Failure()
        self._in_flight -= 1
        if failure is not None and failure.check(Unavailable) and last_behind in self._waiting:
            # Who was in line all the time has waited as long: nobody is to wait for one time-out after the other.
            behind = self._waiting.index(last_behind) + 1
            batch = [*batch, *self._waiting[:behind]]
            del self._waiting[:behind]
            answers += [[] for _ in range(behind)]
        # The next statement first: who is answered may take a while, or ask again.
        self._send()
        for (_, asker), rows in zip(batch, answers, strict=True):
            if asker.called:
                continue
            if failure is None:
                asker.callback(rows)
            else:
                asker.errback(failure.value)
