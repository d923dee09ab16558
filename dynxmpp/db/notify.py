"""LISTEN/NOTIFY on a connection of its own.

Senders say `SELECT pg_notify(channel, payload)` inside their transactions (payload below 8,000 bytes); PostgreSQL
delivers at commit, in commit order. A notification is a hint, never the only carrier of a fact: those sent while the
connection was down are lost. That is why subscribers are told after each reconnection, and then read what they missed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg2
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from dynxmpp.db.connection import CONNECT_ERRORS, DatabaseUnavailable, PgConnection, PoolSettings, describe

__all__ = ["Notifications"]

FIRST_RETRY_S = 0.1
YOUNG_S = 1.0
"""A connection that dies younger than this counts as a failed attempt, so that back-off holds."""

PING_INTERVAL_S = 30.0
PING_TIMEOUT_S = 10.0
"""A connection that only listens says nothing by itself, so a peer that vanished would go unnoticed for long."""


@dataclass(frozen=True)
class _Subscription:
    channel: str
    callback: Callable[[str], None]
    on_reconnect: Callable[[], None] | None


class Notifications:
    """Listens on channels and calls back; reconnects for ever with doubling pauses up to `max_start_interval_s`."""

    log = Logger()

    def __init__(self, settings: PoolSettings, *, clock: IReactorTime, reactor: Any) -> None:
        self._settings = settings
        self._clock = clock
        self._reactor = reactor
        self._subscriptions: list[_Subscription] = []
        self._connection: PgConnection | None = None
        self._listening: set[str] = set()
        self._task: Deferred[None] | None = None
        self._wake: Deferred[None] | None = None
        self._settled: list[Deferred[None]] = []
        self._stopped = False

    @property
    def connected(self) -> bool:
        """The connection is up and listens on every subscribed channel."""
        connection = self._connection
        up = connection is not None and connection.alive
        return up and all(s.channel in self._listening for s in self._subscriptions)

    def subscribe(
        self, channel: str, callback: Callable[[str], None], *, on_reconnect: Callable[[], None] | None = None
    ) -> Callable[[], None]:
        """Call `callback(payload)` for each notification on `channel`, from the time `start()` or `settled()` returns.

        `on_reconnect()` is called when the channel is listened to again after a lost connection: notifications may have
        been missed. Returns a function that ends this subscription. An exception in a callback is logged.
        Raises ValueError for a name that cannot be a channel.
        """
        _quoted(channel)  # a wrong name fails here, with the one who gave it
        subscription = _Subscription(channel, callback, on_reconnect)
        self._subscriptions.append(subscription)
        self._wake_up()

        def unsubscribe() -> None:
            if subscription in self._subscriptions:
                self._subscriptions.remove(subscription)
                self._wake_up()

        return unsubscribe

    async def start(self) -> None:
        """Return when every channel is listened to. `stop()` meanwhile: DatabaseUnavailable; cancelling works too."""
        if self._task is not None or self._stopped:
            raise RuntimeError("notifications start once")
        self._task = Deferred.fromCoroutine(self._run())
        self._task.addErrback(lambda failure: failure.trap(CancelledError) and None)
        self._task.addErrback(self._unexpected)
        try:
            await self.settled()
        except CancelledError:
            await self.stop()
            raise

    async def settled(self) -> None:
        """Return when every subscription made so far is in effect. Raises DatabaseUnavailable when stopped."""
        if self.connected:
            return
        if self._stopped:
            raise DatabaseUnavailable("notifications were stopped")
        settled: Deferred[None] = Deferred()
        self._settled.append(settled)
        await settled

    async def stop(self) -> None:
        """Close the connection and call nobody any more."""
        self._stopped = True
        if self._task is not None:
            self._task.cancel()
        waiting, self._settled = self._settled, []
        for settled in waiting:
            if not settled.called:
                settled.errback(DatabaseUnavailable("notifications were stopped"))

    # The one task

    async def _run(self) -> None:
        attempt = 0
        reconnected = False
        while not self._stopped:  # `stop()` may be called by a callback, where cancelling has no effect
            if attempt:
                await deferLater(self._clock, self._pause_s(attempt))
            attempt += 1
            connection = PgConnection(self._reactor, on_lost=self._lost, on_notify=self._notified)
            try:
                await connection.open(self._settings)
                opened_at = self._clock.seconds()
                self._connection = connection
                await self._listen(connection)
                self.log.info("notifications_connected", channels=sorted(self._listening))
                if reconnected:
                    self._tell_reconnected()
                reconnected = True
                try:
                    await self._stay(connection)
                finally:
                    if self._clock.seconds() - opened_at >= YOUNG_S:
                        attempt = 0
            except (DatabaseUnavailable, *CONNECT_ERRORS) as error:
                pause_s = self._pause_s(attempt) if attempt else 0
                self.log.warn("notifications_lost", reason=describe(error), attempt=attempt, retry_in_s=pause_s)
            finally:
                self._connection = None
                self._listening.clear()
                connection.close()

    def _pause_s(self, attempt: int) -> float:
        return min(FIRST_RETRY_S * 2.0 ** min(attempt - 1, 30), self._settings.max_start_interval_s)

    async def _stay(self, connection: PgConnection) -> None:
        """Ping now and then, and follow the subscriptions; raises when the connection is lost."""
        while not self._stopped:
            if connection.alive and self._listening == {s.channel for s in self._subscriptions}:
                wake: Deferred[None] = Deferred()
                self._wake = wake
                pause = self._clock.callLater(PING_INTERVAL_S, self._wake_up)
                try:
                    await wake
                finally:
                    self._wake = None
                    if pause.active():
                        pause.cancel()
            await self._listen(connection)
            await self._statement(connection, "SELECT 1")

    async def _listen(self, connection: PgConnection) -> None:
        """Make the server's list of channels that of the subscriptions."""
        while True:
            wanted = {s.channel for s in self._subscriptions}
            added, dropped = wanted - self._listening, self._listening - wanted
            if not added and not dropped:
                break
            for channel in sorted(added):
                await self._statement(connection, f"LISTEN {_quoted(channel)}")
            for channel in sorted(dropped):
                await self._statement(connection, f"UNLISTEN {_quoted(channel)}")
            self._listening = wanted
        waiting, self._settled = self._settled, []
        for settled in waiting:
            if not settled.called:
                settled.callback(None)

    async def _statement(self, connection: PgConnection, sql: str) -> None:
        try:
            await connection.run(sql).addTimeout(
                PING_TIMEOUT_S, self._clock, onTimeoutCancel=lambda _value, _timeout: _no_answer()
            )
        except psycopg2.Error as error:
            raise DatabaseUnavailable(describe(error)) from error

    # Events

    def _wake_up(self) -> None:
        wake, self._wake = self._wake, None
        if wake is not None:
            wake.callback(None)

    def _lost(self, connection: PgConnection, reason: BaseException) -> None:
        self._wake_up()  # the next statement on it tells what happened

    def _notified(self, channel: str, payload: str) -> None:
        for subscription in list(self._subscriptions):
            if subscription.channel == channel and not self._stopped:
                self._call(subscription.channel, lambda s=subscription: s.callback(payload))  # type: ignore[misc]

    def _tell_reconnected(self) -> None:
        for subscription in list(self._subscriptions):
            if subscription.on_reconnect is not None:
                self._call(subscription.channel, subscription.on_reconnect)

    def _call(self, channel: str, function: Callable[[], None]) -> None:
        try:
            function()
        except Exception:  # noqa: BLE001 - border of a background task: one subscriber must not cost the others theirs
            self.log.failure("notification_callback_failed", channel=channel)

    def _unexpected(self, failure: Failure) -> None:
        self.log.failure("notifications_failed", failure=failure)


def _no_answer() -> Failure:
    return Failure(DatabaseUnavailable("no answer from the database in time"))


def _quoted(channel: str) -> str:
    """A channel as an SQL identifier. PostgreSQL cuts identifiers at 63 bytes, pg_notify() refuses longer ones."""
    if not channel or "\0" in channel or len(channel.encode()) > 63:
        raise ValueError(f"not a channel name: {channel!r}")
    return '"' + channel.replace('"', '""') + '"'
