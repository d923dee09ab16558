"""One asynchronous connection to PostgreSQL, on txpostgres and psycopg2's asynchronous mode.

txpostgres hands the socket from the connection to a cursor and back for every statement, which costs more than half of
a small statement's time (75 us against 31 us measured). `PgConnection` stays registered with the reactor for its whole
life and runs one statement at a time. It adds what a pool needs to know: whether it is dead, whether a statement is
still running although nobody waits for it any more, and whether a transaction is open.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import psycopg2
import psycopg2.extensions
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.error import ConnectionClosed, ConnectionLost
from twisted.internet.interfaces import IAddress, IHostResolution, IResolutionReceiver
from twisted.python.failure import Failure
from txpostgres import txpostgres
from zope.interface import implementer

from dynxmpp.wire.errors import Unavailable

__all__ = ["CONNECT_ERRORS", "DatabaseUnavailable", "PgConnection", "PoolSettings", "Turn", "describe"]

CONNECT_TIMEOUT_S = 10.0
"""libpq does not watch `connect_timeout` in asynchronous mode, so the caller of `open()` does."""


class DatabaseUnavailable(Unavailable):
    """No answer from the database: away, all connections busy for too long, or the statement took too long.

    `maybe_done` is true when the statement may have reached the server before the connection was lost: whether it
    took effect is unknown then, and only an idempotent statement may be tried again. It is false when nothing was sent
    or when the server said that it stopped the statement.
    """

    def __init__(self, text: str, *, maybe_done: bool = False) -> None:
        super().__init__(text)
        self.maybe_done = maybe_done


@dataclass(frozen=True)
class PoolSettings:
    """Where a database is and how a pool uses it; `outgoing_pools.rdbms.TAG` as plain values.

    A `host` that begins with a slash is the folder of a unix socket. Times are in seconds. `query_timeout_s` is the
    server's `statement_timeout` (0: none); `call_timeout_s` bounds one call including its wait for a free connection.
    """

    host: str
    database: str
    username: str
    password: str = field(default="", repr=False)
    port: int = 5432
    workers: int = 10
    query_timeout_s: float = 5.0
    call_timeout_s: float = 5.0
    max_start_interval_s: float = 30.0
    keepalive_interval_s: float | None = None
    max_waiting: int = 10_000
    sslmode: str = "disable"
    sslrootcert: str | None = None
    sslcert: str | None = None
    sslkey: str | None = None
    sslpassword: str | None = field(default=None, repr=False)
    ssl_min_protocol_version: str | None = None
    ssl_max_protocol_version: str | None = None
    application_name: str = "dynxmpp"

    def connection_parameters(self) -> dict[str, object]:
        """Keywords for libpq, without the resolved addresses."""
        milliseconds = round(self.query_timeout_s * 1000)
        parameters: dict[str, object] = {
            "host": self.host,
            "port": self.port,
            "dbname": self.database,
            "user": self.username,
            "password": self.password,
            "application_name": self.application_name,
            "client_encoding": "UTF8",
            "options": f"-c statement_timeout={milliseconds} -c timezone=UTC",
            "gssencmode": "disable",
            "sslmode": self.sslmode,
            "sslrootcert": self.sslrootcert,
            "sslcert": self.sslcert,
            "sslkey": self.sslkey,
            "sslpassword": self.sslpassword,
            "ssl_min_protocol_version": self.ssl_min_protocol_version,
            "ssl_max_protocol_version": self.ssl_max_protocol_version,
            # A peer that vanished without a word is noticed after a minute, also by a connection that only listens.
            "keepalives_idle": 30,
            "keepalives_interval": 10,
            "keepalives_count": 3,
        }
        return {name: value for name, value in parameters.items() if value is not None}


def _bytes_from_bytea(value: str | bytes | None, cursor: Any) -> bytes | None:
    """psycopg2's own caster gives a memoryview, which neither compares nor hashes like the bytes that went in."""
    if value is None:
        return None
    view: memoryview = psycopg2.BINARY(value, cursor)
    return view.tobytes()


_BYTEA = psycopg2.extensions.new_type((17,), "BYTEA", _bytes_from_bytea)
_BYTEA_ARRAY = psycopg2.extensions.new_array_type((1001,), "BYTEAARRAY", _BYTEA)


def _is_fatal(error: psycopg2.Error) -> bool:
    """True when the session ended with this error. The server closes after FATAL; libpq may not have seen it yet."""
    if error.pgcode is None:
        return isinstance(error, (psycopg2.OperationalError, psycopg2.InterfaceError)) or (
            type(error) is psycopg2.DatabaseError
        )
    return error.diag.severity_nonlocalized in ("FATAL", "PANIC")


def describe(error: BaseException | None) -> str:
    """The first line of an error, for a log event. libpq's connection errors hold no passwords."""
    text = str(error).strip() if error is not None else ""
    return text.splitlines()[0] if text else type(error).__name__


class Turn(Protocol):
    """Told when something has come from the database, and when all that follows from it has been done.

    Who writes much in small pieces meanwhile can do it in one (c2s.outbox).
    """

    def begin(self) -> bool:
        """False when a turn has begun already, whose end then serves both."""

    def end(self) -> None: ...


class PgConnection(txpostgres.Connection):
    """A connection that runs one statement at a time; owned by one pool (or one listener).

    `on_lost(connection, reason)` is called once when it dies by itself, before the waiting statement fails; not after
    `close()`. `on_notify(channel, payload)` is called for every notification.
    """

    def __init__(
        self,
        reactor: Any,
        *,
        on_lost: "Callable[[PgConnection, BaseException], None]",
        on_notify: Callable[[str, str], None] | None = None,
        turn: Turn | None = None,
    ) -> None:
        super().__init__(reactor)
        self._turn = turn
        self.opened_at = 0.0  # these two belong to the pool
        self.used_at = 0.0
        self.deadline: float | None = None
        self.statement_limit_s: float | None = None
        self._on_lost = on_lost
        self._on_notify = on_notify
        self._fd: int | None = None
        self._cursor: Any = None
        self._result: Deferred[Any] | None = None
        self._when_over: Deferred[None] | None = None
        self._writing = False

    # Life

    async def open(self, settings: PoolSettings) -> None:
        """Connect. Raises psycopg2.OperationalError, also after CONNECT_TIMEOUT_S."""
        parameters = settings.connection_parameters()
        if not settings.host.startswith("/"):
            addresses = await _resolve(self.reactor, settings.host, settings.port)
            parameters["host"] = ",".join([settings.host] * len(addresses))
            parameters["hostaddr"] = ",".join(addresses)
        await self._connected(parameters)
        self._adopt_socket()

    async def _connected(self, parameters: dict[str, object]) -> None:
        # txpostgres' own Deferred cannot be cancelled while a connection is being made.
        given_up = False

        def give_up(_: Deferred[None]) -> None:
            nonlocal given_up
            given_up = True
            self.close()

        opened: Deferred[None] = Deferred(give_up)

        def done(_: object) -> None:
            if not given_up:
                opened.callback(None)

        def failed(failure: Failure) -> None:
            if not given_up:
                opened.errback(failure)

        self.connect(**parameters).addCallbacks(done, failed)
        opened.addTimeout(CONNECT_TIMEOUT_S, self.reactor)
        try:
            await opened
        except ConnectionClosed as error:
            raise psycopg2.OperationalError("connection closed while it was being made") from error
        except DeferredTimeoutError as error:
            raise psycopg2.OperationalError(f"no connection within {CONNECT_TIMEOUT_S:g} s") from error

    def _adopt_socket(self) -> None:
        # libpq closes its descriptor the moment it reads the end of the stream, and the number may be somebody else's
        # by the time we would unregister it. A duplicate of our own stays valid until `close()`.
        self.reactor.removeReader(self)
        self._fd = os.dup(self._connection.fileno())
        self.reactor.addReader(self)
        psycopg2.extensions.register_type(_BYTEA, self._connection)
        psycopg2.extensions.register_type(_BYTEA_ARRAY, self._connection)

    def close(self) -> None:
        """Close now. A statement that was running fails with DatabaseUnavailable."""
        if self._fd is None:
            if self._connection is not None:
                super().close()
            return
        self._disconnect()
        self._statement_over(DatabaseUnavailable("the connection was closed", maybe_done=True))

    def _disconnect(self) -> None:
        self.reactor.removeReader(self)
        self.reactor.removeWriter(self)
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
        if not self._connection.closed:
            self._connection.close()

    def _die(self, reason: BaseException) -> None:
        if self._fd is None:
            return
        self._disconnect()
        self._on_lost(self, reason)
        lost = DatabaseUnavailable(f"connection lost: {describe(reason)}", maybe_done=True)
        lost.__cause__ = reason
        self._statement_over(lost)

    # State

    @property
    def alive(self) -> bool:
        return self._fd is not None

    @property
    def busy(self) -> bool:
        """A statement is running, whether somebody waits for it or not."""
        return self._cursor is not None

    @property
    def in_transaction(self) -> bool:
        status: int = self._connection.info.transaction_status
        return status != psycopg2.extensions.TRANSACTION_STATUS_IDLE

    @property
    def backend_pid(self) -> int:
        pid: int = self._connection.info.backend_pid
        return pid

    # Statements

    def run(self, sql: str, params: Sequence[object] | None = None, *, deadline: float | None = None) -> Deferred[Any]:
        """Send a statement; fires with psycopg2's cursor when it is over.

        Without `params` the text goes as it is; with them a literal percent sign is written `%%`. Cancelling fails the
        caller with CancelledError at once and leaves the connection `busy`.

        Raises at once, with nothing sent: DatabaseUnavailable (dead), ValueError (NUL or a lone surrogate in a text),
        psycopg2.ProgrammingError (a parameter of unknown type), IndexError or TypeError (number of parameters).
        """
        if self.busy:
            raise RuntimeError("one statement at a time on a connection")
        if not self.alive:
            raise DatabaseUnavailable("the connection is closed")
        cursor = self._connection.cursor()
        try:
            cursor.execute(sql, params or None)
        except psycopg2.Error as error:
            if not self._connection.closed and not _is_fatal(error):
                raise
            self._die(error)
            raise DatabaseUnavailable(f"connection lost: {describe(error)}") from error
        self._cursor = cursor
        self.deadline = deadline
        result: Deferred[Any] = Deferred(self._abandon)
        self._result = result
        self._advance()
        return result

    def over(self) -> Deferred[None]:
        """Fires when no statement is running any more, for whatever reason."""
        over: Deferred[None] = Deferred()
        if self.busy:
            self._when_over = over
        else:
            over.callback(None)
        return over

    def expire(self) -> None:
        """The deadline has passed: fail the caller, leave the connection `busy`."""
        result, self._result, self.deadline = self._result, None, None
        if result is not None:
            result.errback(DatabaseUnavailable("no answer from the database in time", maybe_done=True))

    def is_still_there(self) -> bool:
        """Look at the socket of an idle connection before it is used: one system call.

        A statement sent to a server that has gone would have to be reported as `maybe_done`; one kept back is simply
        given to another connection.
        """
        self._advance()
        if self.alive and self._connection.notices:
            # The server's farewell; the end of the stream is the next thing to read.
            self._connection.notices.clear()
            self._advance()
        return self.alive

    def _abandon(self, result: Deferred[Any]) -> None:
        self._result = None
        self.deadline = None

    def _advance(self) -> None:
        """Let libpq read and write what it can; end the statement if that ended it."""
        try:
            state = self._connection.poll()
        except psycopg2.Error as error:
            if self._connection.closed or _is_fatal(error):
                self._die(error)
            else:
                self._statement_over(error)
            return
        writing = state == psycopg2.extensions.POLL_WRITE
        if writing is not self._writing:
            self._writing = writing
            (self.reactor.addWriter if writing else self.reactor.removeWriter)(self)
        if state == psycopg2.extensions.POLL_OK:
            if self._connection.notifies:
                self._deliver_notifies()
            self._statement_over(None)

    def _statement_over(self, error: BaseException | None) -> None:
        cursor, self._cursor = self._cursor, None
        result, self._result = self._result, None
        over, self._when_over = self._when_over, None
        self.deadline = None
        if result is not None:
            if error is None:
                result.callback(cursor)
            else:
                result.errback(error)
        if over is not None:
            over.callback(None)

    def _deliver_notifies(self) -> None:
        received = list(self._connection.notifies)
        self._connection.notifies.clear()
        if self._on_notify is not None:
            for notify in received:
                self._on_notify(notify.channel, notify.payload)

    # What the reactor calls

    def fileno(self) -> int:
        if self._fd is not None:
            return self._fd
        number: int = super().fileno()
        return number

    # While the connection is being made, txpostgres' own polling is used, but not that of its Connection class, which
    # would go on watching a socket that has failed.

    def doRead(self) -> None:
        if self._fd is None:
            txpostgres._PollingMixin.doRead(self)
        elif self._turn is None or not self._turn.begin():
            self._advance()
        else:
            try:
                self._advance()
            finally:
                self._turn.end()

    def doWrite(self) -> None:
        if self._fd is None:
            txpostgres._PollingMixin.doWrite(self)
        else:
            self._advance()

    def connectionLost(self, reason: Failure) -> None:
        if self._fd is None:
            super().connectionLost(reason)
            return
        self._advance()  # libpq knows a better reason if there is one
        self._die(reason.value or ConnectionLost())


@implementer(IResolutionReceiver)
class _Addresses:
    """Gathers what the reactor's resolver finds. libpq would look the name up itself and block the whole process."""

    def __init__(self) -> None:
        self.found: list[str] = []
        self.complete: Deferred[None] = Deferred()

    def resolutionBegan(self, resolutionInProgress: IHostResolution) -> None:
        pass

    def addressResolved(self, address: IAddress) -> None:
        self.found.append(address.host)  # type: ignore[attr-defined]

    def resolutionComplete(self) -> None:
        if not self.complete.called:
            self.complete.callback(None)


async def _resolve(reactor: Any, host: str, port: int) -> list[str]:
    if isIPAddress(host) or isIPv6Address(host):
        return [host]
    receiver = _Addresses()
    reactor.nameResolver.resolveHostName(receiver, host, port)
    receiver.complete.addTimeout(CONNECT_TIMEOUT_S, reactor)
    try:
        await receiver.complete
    except DeferredTimeoutError as error:
        raise psycopg2.OperationalError(f"host name {host} could not be resolved in time") from error
    if not receiver.found:
        raise psycopg2.OperationalError(f"host name {host} has no address")
    return list(dict.fromkeys(receiver.found))


CONNECT_ERRORS = (psycopg2.Error, OSError, ValueError)
"""What `PgConnection.open()` may raise besides CancelledError."""
