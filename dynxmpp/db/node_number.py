"""A number from 0 to 255 for this process that no other process on the same database has at the same time.

It is a session-level advisory lock on a connection of its own, so PostgreSQL gives it back when the process has gone,
however it went. That needs a session that is ours: PgBouncer in transaction mode is not supported here.

When the connection is lost, the process goes on under its number and takes it again as soon as it can; if another
process has got it by then, it takes a free one. In between two processes may have one number. Who builds keys of it
and of the time, in microseconds, has by far the better part of the promise still.
"""

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from dynxmpp.db.connection import DatabaseUnavailable, PgConnection, PoolSettings
from dynxmpp.db.standing import StandingConnection

__all__ = ["NUMBERS", "NodeNumber"]

NUMBERS = 256

LOCK_CLASS = 0x64786E6E
"""The first half of the locks' keys, which all processes agree on: "dxnn" in ASCII."""

_TAKE = "SELECT pg_try_advisory_lock(%s, %s)"
# The first row ends the scan, so one lock is taken and not all that are free.
_TAKE_ANY = "SELECT n FROM generate_series(0, %s) AS n WHERE pg_try_advisory_lock(%s, n) LIMIT 1"


class NodeNumber:
    """Takes a number and keeps it; one a process."""

    log = Logger()

    def __init__(self, settings: PoolSettings, *, clock: IReactorTime, reactor: Any) -> None:
        self._standing = StandingConnection(
            "node_number", settings, clock=clock, reactor=reactor, prepare=self._prepare
        )
        self._number: int | None = None
        #: The connection whose session has the lock.
        self._holder: PgConnection | None = None
        self._started: Deferred[int] | None = None

    @property
    def number(self) -> int:
        """As it is now: it may change after a lost connection. Raises RuntimeError while there is none yet."""
        if self._number is None:
            raise RuntimeError("this process has no number yet")
        return self._number

    @property
    def held(self) -> bool:
        """Is it certain that nobody else has the number?"""
        return self._holder is not None and self._holder.alive

    async def start(self) -> int:
        """Return the number once there is one; tries for ever. `stop()` meanwhile: DatabaseUnavailable."""
        self._standing.start()
        if self._number is None:
            started = self._started = Deferred()
            try:
                await started
            except CancelledError:
                await self.stop()
                raise
        return self.number

    async def stop(self) -> None:
        """Give the number back."""
        self._standing.stop()
        self._holder = None
        if self._started is not None and not self._started.called:
            self._started.errback(DatabaseUnavailable("stopped before there was a number"))

    async def _prepare(self, connection: PgConnection) -> None:
        """Take a number in a new session. Raises DatabaseUnavailable when there is none, which leads to a new try."""
        if connection is self._holder:
            return
        before = self._number
        number = None if before is None else await self._take_again(connection, before)
        if number is None:
            rows = await self._standing.run(connection, _TAKE_ANY, (NUMBERS - 1, LOCK_CLASS))
            if not rows:
                raise DatabaseUnavailable(f"all {NUMBERS} numbers are taken")
            number = int(rows[0][0])
        self._holder, self._number = connection, number
        if before is None:
            self.log.info("node_number_taken", number=number)
        elif before != number:
            self.log.warn("node_number_changed", number=number, before=before)
        if self._started is not None and not self._started.called:
            self._started.callback(number)

    async def _take_again(self, connection: PgConnection, number: int) -> int | None:
        rows = await self._standing.run(connection, _TAKE, (LOCK_CLASS, number))
        return number if rows[0][0] else None
