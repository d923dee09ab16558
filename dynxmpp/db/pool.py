"""A named pool of PostgreSQL connections: bounded waiting, transactions, reconnection.

Rules a caller can rely on:

- A call ends within `call_timeout_s` plus a fraction of a second, waiting for a free connection included; then it
  raises `DatabaseUnavailable`. So does a statement that the server's `statement_timeout` stopped.
- A statement is sent at most once. It moves to another connection only when nothing of it was sent.
- Errors of SQL come through as `psycopg2.errors` classes and leave the pool intact.
- Cancelling a call raises the ordinary `CancelledError` at once. The statement is stopped on the server behind the
  caller's back, and the connection serves nobody else before that is over.
- Values: bytea comes back as bytes, timestamptz as an aware datetime in UTC, jsonb parsed. A NUL character or a lone
  surrogate in a text raises ValueError and nothing is sent.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, Literal, TypeVar

import psycopg2
import psycopg2.errors
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall, deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from dynxmpp.db.connection import CONNECT_ERRORS, DatabaseUnavailable, PgConnection, PoolSettings, Turn, describe

__all__ = ["Database", "DatabaseUnavailable", "PoolSettings", "Transaction"]

T = TypeVar("T")

TICK_S = 0.2
"""How often deadlines are looked at. A timer of its own for each statement would cost 2 us of its 31."""

FIRST_RETRY_S = 0.1
YOUNG_S = 1.0
"""A connection that dies younger than this counts as a failed attempt, so that back-off holds."""

RECOVERY_S = 5.0
GUARD_S = 1.0
"""How much longer than `statement_timeout` we wait for the server to say so before we take it for dead."""


class Transaction:
    """The inside of `Database.transaction()`: statements on one connection, one at a time."""

    def __init__(self, database: "Database", connection: PgConnection) -> None:
        self._database = database
        self._connection: PgConnection | None = connection

    async def query(self, sql: str, params: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """The rows of a statement; empty for one that returns none."""
        return _rows(await self._run(sql, params))

    async def execute(self, sql: str, params: Sequence[object] = ()) -> int:
        """The number of rows affected."""
        return _count(await self._run(sql, params))

    async def _run(self, sql: str, params: Sequence[object]) -> Any:
        if self._connection is None:
            raise RuntimeError("this transaction is over")
        return await self._database._run(self._connection, sql, params)

    def _end(self) -> None:
        self._connection = None


class Database:
    """A pool of `settings.workers` connections to one database; see the rules at the top of this file.

    `name` is the pool's tag, for log events. `reactor` watches sockets (IReactorFDSet, IReactorTime, name resolver);
    `clock` is what deadlines and back-off go by.
    """

    log = Logger()

    def __init__(
        self,
        settings: PoolSettings,
        *,
        clock: IReactorTime,
        reactor: Any,
        name: str = "default",
        turn: Turn | None = None,
    ) -> None:
        self.settings = settings
        self._turn = turn
        self.name = name
        self._clock = clock
        self._reactor = reactor
        self._state: Literal["new", "running", "stopping", "stopped"] = "new"
        self._idle: list[PgConnection] = []
        self._all: set[PgConnection] = set()
        self._waiting: deque[tuple[float, Deferred[PgConnection]]] = deque()
        self._serving = False
        self._recovering: set[Deferred[None]] = set()
        self._ticker = LoopingCall(self._tick)
        self._ticker.clock = clock
        self._filler: Deferred[None] | None = None
        self._failed_attempts = 0
        self._young_losses = 0
        self._away_reported = False
        self._first: Deferred[None] | None = None
        self._drained: Deferred[None] | None = None

    # For callers

    @property
    def available(self) -> bool:
        """At least one connection is up."""
        return bool(self._all)

    def call_soon(self, function: Callable[[], None]) -> None:
        """Calls `function` when the reactor has dealt with what it has read."""
        self._reactor.callLater(0, function)

    async def query(self, sql: str, params: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """Run one statement in a transaction of its own and return its rows (none: an empty list)."""
        return await self._call(sql, params, _rows)

    async def execute(self, sql: str, params: Sequence[object] = ()) -> int:
        """Run one statement in a transaction of its own and return the number of rows affected."""
        return await self._call(sql, params, _count)

    async def transaction(
        self,
        work: Callable[[Transaction], Awaitable[T]],
        *,
        statement_timeout_s: float | None = None,
    ) -> T:
        """Run `work` in a transaction: commit when it returns, roll back when it raises; its result is returned.

        Each statement is bounded by `query_timeout_s`, or by `statement_timeout_s` when given (0: unbounded, for
        migrations); the whole is not, so `work` must not await anything slow besides its statements. `work` runs once.

        Raises what `work` raises; DatabaseUnavailable with `maybe_done` when the connection was lost during the
        commit; psycopg2.errors.InFailedSqlTransaction when `work` hid the failure of a statement from us.
        """
        connection = await self._acquire(self._clock.seconds() + self.settings.call_timeout_s)
        transaction = Transaction(self, connection)
        try:
            return await self._commit_or_roll_back(transaction, connection, work, statement_timeout_s)
        finally:
            transaction._end()
            connection.statement_limit_s = None
            self._give_back(connection)

    async def start(self) -> None:
        """Return when the first connection is up; the others follow in the background.

        Tries for ever, with doubling pauses up to `max_start_interval_s`, logging each attempt. `stop()` meanwhile, or
        cancelling, ends it: DatabaseUnavailable, or CancelledError.
        """
        if self._state != "new":
            raise RuntimeError("a pool starts once")
        self._state = "running"
        self._ticker.start(TICK_S, now=False)
        first: Deferred[None] = Deferred()
        self._first = first
        self._fill()
        try:
            await first
        except CancelledError:
            await self.stop(grace_s=0)
            raise

    async def stop(self, grace_s: float = 5.0) -> None:
        """Let what is in flight end, for at most `grace_s` seconds; then close all. New calls are refused."""
        if self._state != "running":
            if self._state == "new":
                self._state = "stopped"
            return
        self._state = "stopping"
        if self._filler is not None:
            self._filler.cancel()
        if self._first is not None and not self._first.called:
            self._first.errback(DatabaseUnavailable("the pool was stopped before it was up"))
        if not self._all:
            self._refuse_waiting(self._clock.seconds(), everybody=True)
        if self._in_flight():
            self._drained = Deferred().addTimeout(grace_s, self._clock)
            try:
                await self._drained
            except DeferredTimeoutError:
                self.log.warn("database_stop_impatient", pool=self.name, busy=len(self._all) - len(self._idle))
        self._close_all()

    def _in_flight(self) -> bool:
        return bool(self._waiting or self._recovering or len(self._idle) < len(self._all))

    def _close_all(self) -> None:
        self._state = "stopped"
        self._ticker.stop()
        self._refuse_waiting(self._clock.seconds(), everybody=True)
        for recovery in list(self._recovering):
            recovery.cancel()
        self._idle.clear()
        for connection in list(self._all):
            self._all.discard(connection)
            connection.close()

    # One call

    async def _call(self, sql: str, params: Sequence[object], take: Callable[[Any], T]) -> T:
        """`take` gets the result out of the cursor while the connection is still ours: another may close it."""
        deadline = self._clock.seconds() + self.settings.call_timeout_s
        while True:
            connection = await self._acquire(deadline)
            try:
                return take(await self._run(connection, sql, params, deadline=deadline))
            except DatabaseUnavailable as error:
                if connection.alive or error.maybe_done:
                    raise
                # It died before anything was sent; there may be another.
            finally:
                self._give_back(connection)

    async def _run(
        self,
        connection: PgConnection,
        sql: str,
        params: Sequence[object] | None = None,
        *,
        deadline: float | None = None,
    ) -> Any:
        """Run a statement on a connection that is ours; the server's time-out becomes DatabaseUnavailable."""
        limit = connection.statement_limit_s
        if limit is None:
            limit = self.settings.query_timeout_s
        if limit:
            guard = self._clock.seconds() + limit + GUARD_S
            deadline = guard if deadline is None else min(deadline, guard)
        try:
            return await connection.run(sql, params, deadline=deadline)
        except psycopg2.errors.QueryCanceled as error:
            raise DatabaseUnavailable(f"the statement was stopped: {describe(error)}") from error

    async def _commit_or_roll_back(
        self,
        transaction: Transaction,
        connection: PgConnection,
        work: Callable[[Transaction], Awaitable[T]],
        statement_timeout_s: float | None,
    ) -> T:
        await self._run(connection, "BEGIN")
        try:
            if statement_timeout_s is not None:
                connection.statement_limit_s = statement_timeout_s
                await self._run(connection, f"SET LOCAL statement_timeout = {round(statement_timeout_s * 1000)}")
            result = await work(transaction)
            cursor = await self._run(connection, "COMMIT")
        except CancelledError:
            raise  # `_give_back` sees that a transaction is open and ends it, without keeping the caller
        except Exception:  # whatever it is, it goes on to the caller; here we only tidy up
            if connection.alive and not connection.busy and connection.in_transaction:
                with suppress(DatabaseUnavailable, psycopg2.Error):  # a dead connection has been reported
                    await self._run(connection, "ROLLBACK")
            raise
        if cursor.statusmessage != "COMMIT":
            # PostgreSQL answers COMMIT in a failed transaction with a rollback and no error.
            raise psycopg2.errors.InFailedSqlTransaction(
                "a statement of this transaction failed and it was rolled back"
            )
        return result

    # Connections out and back

    async def _acquire(self, deadline: float) -> PgConnection:
        if self._state != "running":
            raise DatabaseUnavailable(f"the pool {self.name} is not running")
        while self._idle and not self._waiting:
            connection = self._idle.pop()
            if connection.is_still_there():
                return connection
        if len(self._waiting) >= self.settings.max_waiting:
            raise DatabaseUnavailable("too many calls are waiting for a connection")
        waiting: Deferred[PgConnection] = Deferred()
        self._waiting.append((deadline, waiting))
        return await waiting

    def _give_back(self, connection: PgConnection) -> None:
        """Take a connection back, in whatever state it is. Never waits."""
        if not connection.alive:
            self._check_drained()
        elif connection.busy or connection.in_transaction:
            self._spawn_recovery(connection)
        else:
            connection.used_at = self._clock.seconds()
            self._idle.append(connection)
            self._serve_waiting()

    def _serve_waiting(self) -> None:
        if self._serving:
            return  # further up the stack: a caller that failed at once gave its connection back
        self._serving = True
        try:
            while self._idle and self._waiting:
                if self._waiting[0][1].called:
                    self._waiting.popleft()  # cancelled, nobody is there any more
                    continue
                connection = self._idle.pop()
                if connection.is_still_there():
                    self._waiting.popleft()[1].callback(connection)
        finally:
            self._serving = False
        self._check_drained()

    def _check_drained(self) -> None:
        if self._drained is not None and not self._drained.called and not self._in_flight():
            self._drained.callback(None)

    def _refuse_waiting(self, now: float, *, everybody: bool = False) -> None:
        # All calls have the same time-out, so the first in the queue is the first to expire.
        while self._waiting and (everybody or self._waiting[0][0] <= now or self._waiting[0][1].called):
            _, waiting = self._waiting.popleft()
            if not waiting.called:
                reason = "no free connection in time" if self._all else "no connection to the database"
                waiting.errback(DatabaseUnavailable(reason))

    def _tick(self) -> None:
        now = self._clock.seconds()
        self._refuse_waiting(now)
        for connection in list(self._all):
            if connection.deadline is not None and connection.deadline <= now:
                connection.expire()
        self._check_drained()
        interval = self.settings.keepalive_interval_s
        if interval is not None:
            for connection in [c for c in self._idle if c.used_at + interval <= now]:
                self._idle.remove(connection)
                self._background(self._keep_alive(connection))

    async def _keep_alive(self, connection: PgConnection) -> None:
        try:
            await self._run(connection, "SELECT 1")
        except (DatabaseUnavailable, psycopg2.Error):
            return  # reported when it was lost, or about to be recovered
        finally:
            self._give_back(connection)

    # A connection that was left in the middle of something

    def _spawn_recovery(self, connection: PgConnection) -> None:
        recovery = self._background(self._recover(connection))
        recovery.addTimeout(RECOVERY_S, self._clock)

        def over(result: Failure | None) -> None:
            self._recovering.discard(recovery)
            if isinstance(result, Failure):
                result.trap(CancelledError, DeferredTimeoutError, DatabaseUnavailable, psycopg2.Error, *CONNECT_ERRORS)
                self._discard(connection, describe(result.value))
            elif connection.alive:
                self._give_back(connection)
            self._check_drained()

        self._recovering.add(recovery)
        recovery.addBoth(over)
        recovery.addErrback(self._unexpected)

    async def _recover(self, connection: PgConnection) -> None:
        """Stop the abandoned statement and roll its transaction back, so that the connection can serve again."""
        if connection.busy:
            await self._stop_statement(connection)
            await connection.over()
        if connection.alive and connection.in_transaction:
            await connection.run("ROLLBACK")

    async def _stop_statement(self, connection: PgConnection) -> None:
        # psycopg2's cancel() blocks until the server answers, so we ask by SQL, on a connection for that purpose: those
        # of the pool may all be busy. `connection` stays reserved until we know, so it cannot hit somebody else's work.
        side = PgConnection(self._reactor, on_lost=lambda *_: None)
        try:
            await side.open(self.settings)
            if connection.busy:
                await side.run("SELECT pg_cancel_backend(%s)", (connection.backend_pid,))
        finally:
            side.close()

    def _discard(self, connection: PgConnection, reason: str) -> None:
        if connection in self._all:
            self._all.discard(connection)
            connection.close()
            self.log.warn("database_connection_discarded", pool=self.name, reason=reason)
            self._fill()

    def _background(self, work: Any) -> "Deferred[None]":
        task: Deferred[None] = Deferred.fromCoroutine(work)
        return task

    def _unexpected(self, failure: Failure) -> None:
        self.log.failure("database_background_failed", failure=failure, pool=self.name)

    # Making connections

    def _lost(self, connection: PgConnection, reason: BaseException) -> None:
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if self._filler is None:  # one loss is counted for all connections that die together
            young = self._clock.seconds() - connection.opened_at < YOUNG_S
            self._young_losses = self._young_losses + 1 if young else 0
        if not self._away_reported:
            self._away_reported = True
            self.log.warn("database_connection_lost", pool=self.name, reason=describe(reason))
        self._fill()

    def _fill(self) -> None:
        if self._filler is None and self._state == "running":
            self._filler = self._background(self._make_connections())
            self._filler.addErrback(lambda failure: failure.trap(CancelledError) and None)
            self._filler.addErrback(self._unexpected)

    async def _make_connections(self) -> None:
        """Bring the pool to its size, one connection after the other: a server that is away meets one caller only."""
        try:
            if self._young_losses:
                await deferLater(self._clock, self._pause_s(self._young_losses))
            # Not only cancelling ends it: `stop()` may be called further down our own stack, by a caller we served.
            while self._state == "running" and len(self._all) < self.settings.workers:
                if self._failed_attempts:
                    await deferLater(self._clock, self._pause_s(self._failed_attempts))
                await self._make_connection()
        finally:
            self._filler = None
        if self._state != "running":
            return
        self._away_reported = False
        self.log.info("database_connected", pool=self.name, connections=len(self._all))

    def _pause_s(self, retries: int) -> float:
        return min(FIRST_RETRY_S * 2.0 ** min(retries - 1, 30), self.settings.max_start_interval_s)

    async def _make_connection(self) -> None:
        connection = PgConnection(self._reactor, on_lost=self._lost, turn=self._turn)
        try:
            await connection.open(self.settings)
        except CONNECT_ERRORS as error:
            self._failed_attempts += 1
            self.log.warn(
                "database_connect_failed",
                pool=self.name,
                attempt=self._failed_attempts,
                retry_in_s=self._pause_s(self._failed_attempts),
                reason=describe(error),
            )
            return
        self._failed_attempts = 0
        connection.opened_at = self._clock.seconds()
        self._all.add(connection)
        self._give_back(connection)
        if self._first is not None and not self._first.called:
            self._first.callback(None)


def _rows(cursor: Any) -> list[tuple[Any, ...]]:
    if cursor.description is None:
        return []
    rows: list[tuple[Any, ...]] = cursor.fetchall()
    return rows


def _count(cursor: Any) -> int:
    return max(cursor.rowcount, 0)
