"""A connection outside of any pool, for what lives in a session of PostgreSQL: LISTEN, session-level locks.

Not for use through PgBouncer or another pooler in transaction mode: what belongs to the session would end up in
somebody else's.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import psycopg2
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from dynxmpp.db.connection import CONNECT_ERRORS, DatabaseUnavailable, PgConnection, PoolSettings, describe

__all__ = ["PING_INTERVAL_S", "StandingConnection"]

FIRST_RETRY_S = 0.1
YOUNG_S = 1.0
"""A connection that dies younger than this counts as a failed attempt, so that back-off holds."""

PING_INTERVAL_S = 30.0
PING_TIMEOUT_S = 10.0
"""A connection that says nothing by itself: a peer that vanished would go unnoticed for long."""


class StandingConnection:
    """Is opened again for ever, with doubling pauses up to `max_start_interval_s`.

    `prepare(connection)` is awaited on each new connection, after each `wake()`, and before each ping: it makes the
    session what it is to be. DatabaseUnavailable out of it ends the connection, and the next one is made. `name` begins
    the names of log events.
    """

    log = Logger()

    def __init__(
        self,
        name: str,
        settings: PoolSettings,
        *,
        clock: IReactorTime,
        reactor: Any,
        prepare: Callable[[PgConnection], Awaitable[None]],
        on_notify: Callable[[str, str], None] | None = None,
    ) -> None:
        self._name = name
        self._settings = settings
        self._clock = clock
        self._reactor = reactor
        self._prepare = prepare
        self._on_notify = on_notify
        self._connection: PgConnection | None = None
        self._task: Deferred[None] | None = None
        self._pause: Deferred[None] | None = None
        self._woken = False
        self.stopped = False

    @property
    def alive(self) -> bool:
        """There is a connection; whether it is prepared is for the owner to know."""
        return self._connection is not None and self._connection.alive

    def start(self) -> None:
        """Begin to connect. Raises RuntimeError the second time, and after `stop()`."""
        if self._task is not None or self.stopped:
            raise RuntimeError(f"{self._name} start once")
        self._task = Deferred.fromCoroutine(self._run())
        self._task.addErrback(lambda failure: failure.trap(CancelledError) and None)
        self._task.addErrback(self._unexpected)

    def stop(self) -> None:
        """Close the connection and make no other."""
        self.stopped = True
        if self._task is not None:
            self._task.cancel()

    def wake(self) -> None:
        """Have `prepare` called soon, if there is a connection."""
        self._woken = True
        pause, self._pause = self._pause, None
        if pause is not None:
            pause.callback(None)

    async def run(
        self, connection: PgConnection, sql: str, params: Sequence[object] | None = None
    ) -> list[tuple[Any, ...]]:
        """The rows of a statement, for `prepare`. Raises DatabaseUnavailable, also for what SQL says against it."""
        try:
            cursor = await connection.run(sql, params).addTimeout(
                PING_TIMEOUT_S, self._clock, onTimeoutCancel=lambda _value, _timeout: _no_answer()
            )
        except psycopg2.Error as error:
            raise DatabaseUnavailable(describe(error)) from error
        return list(cursor.fetchall()) if cursor.description is not None else []

    async def _run(self) -> None:
        attempt = 0
        while not self.stopped:  # `stop()` may be called out of `prepare` or a notification: cancelling does nothing
            if attempt:
                await deferLater(self._clock, self._pause_s(attempt))
            attempt += 1
            connection = PgConnection(self._reactor, on_lost=self._lost, on_notify=self._on_notify)
            try:
                await connection.open(self._settings)
                opened_at = self._clock.seconds()
                self._connection = connection
                try:
                    await self._stay(connection)
                finally:
                    if self._clock.seconds() - opened_at >= YOUNG_S:
                        attempt = 0
            except (DatabaseUnavailable, *CONNECT_ERRORS) as error:
                pause_s = self._pause_s(attempt) if attempt else 0
                event = f"{self._name}_lost"
                self.log.warn(event, reason=describe(error), attempt=attempt, retry_in_s=pause_s)
            finally:
                self._connection = None
                connection.close()

    def _pause_s(self, attempt: int) -> float:
        return min(FIRST_RETRY_S * 2.0 ** min(attempt - 1, 30), self._settings.max_start_interval_s)

    async def _stay(self, connection: PgConnection) -> None:
        """Prepare and ping now and then; raises when the connection is lost."""
        self._woken = False
        await self._prepare(connection)
        while not self.stopped:
            if connection.alive and not self._woken:
                await self._rest()
            self._woken = False
            await self._prepare(connection)
            await self.run(connection, "SELECT 1")

    async def _rest(self) -> None:
        pause: Deferred[None] = Deferred()
        self._pause = pause
        end = self._clock.callLater(PING_INTERVAL_S, self.wake)
        try:
            await pause
        finally:
            self._pause = None
            if end.active():
                end.cancel()

    def _lost(self, connection: PgConnection, reason: BaseException) -> None:
        self.wake()  # the next statement on it tells what happened

    def _unexpected(self, failure: Failure) -> None:
        self.log.failure(f"{self._name}_failed", failure=failure)


def _no_answer() -> Failure:
    return Failure(DatabaseUnavailable("no answer from the database in time"))
