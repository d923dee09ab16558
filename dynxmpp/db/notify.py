"""LISTEN/NOTIFY on a connection of its own.

Senders say `SELECT pg_notify(channel, payload)` inside their transactions (payload below 8,000 bytes); PostgreSQL
delivers at commit, in commit order. A notification is a hint, never the only carrier of a fact: those sent while the
connection was down are lost. That is why subscribers are told after each reconnection, and then read what they missed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from dynxmpp.db.connection import DatabaseUnavailable, PgConnection, PoolSettings
from dynxmpp.db.standing import StandingConnection

__all__ = ["Notifications"]


@dataclass(frozen=True)
class _Subscription:
    channel: str
    callback: Callable[[str], None]
    on_reconnect: Callable[[], None] | None


class Notifications:
    """Listens on channels and calls back; reconnects for ever with doubling pauses up to `max_start_interval_s`."""

    log = Logger()

    def __init__(self, settings: PoolSettings, *, clock: IReactorTime, reactor: Any) -> None:
        self._subscriptions: list[_Subscription] = []
        self._standing = StandingConnection(
            "notifications", settings, clock=clock, reactor=reactor, prepare=self._prepare, on_notify=self._notified
        )
        #: The connection that `_listening` is about.
        self._prepared: PgConnection | None = None
        self._listening: set[str] = set()
        self._was_up = False
        self._settled: list[Deferred[None]] = []

    @property
    def connected(self) -> bool:
        """The connection is up and listens on every subscribed channel."""
        return self._standing.alive and all(s.channel in self._listening for s in self._subscriptions)

    @property
    def is_wanted(self) -> bool:
        """Has anybody subscribed?"""
        return bool(self._subscriptions)

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
        self._standing.wake()

        def unsubscribe() -> None:
            if subscription in self._subscriptions:
                self._subscriptions.remove(subscription)
                self._standing.wake()

        return unsubscribe

    async def start(self) -> None:
        """Return when every channel is listened to. `stop()` meanwhile: DatabaseUnavailable; cancelling works too."""
        self._standing.start()
        try:
            await self.settled()
        except CancelledError:
            await self.stop()
            raise

    async def settled(self) -> None:
        """Return when every subscription made so far is in effect. Raises DatabaseUnavailable when stopped."""
        if self.connected:
            return
        if self._standing.stopped:
            raise DatabaseUnavailable("notifications were stopped")
        settled: Deferred[None] = Deferred()
        self._settled.append(settled)
        await settled

    async def stop(self) -> None:
        """Close the connection and call nobody any more."""
        self._standing.stop()
        waiting, self._settled = self._settled, []
        for settled in waiting:
            if not settled.called:
                settled.errback(DatabaseUnavailable("notifications were stopped"))

    # The connection

    async def _prepare(self, connection: PgConnection) -> None:
        """Follow the subscriptions; on a new connection tell those who may have missed something."""
        if connection is self._prepared:
            await self._listen(connection)
            return
        self._prepared = connection
        self._listening.clear()
        await self._listen(connection)
        self.log.info("notifications_connected", channels=sorted(self._listening))
        if self._was_up:
            self._tell_reconnected()
        self._was_up = True

    async def _listen(self, connection: PgConnection) -> None:
        """Make the server's list of channels that of the subscriptions."""
        while True:
            wanted = {s.channel for s in self._subscriptions}
            added, dropped = wanted - self._listening, self._listening - wanted
            if not added and not dropped:
                break
            for channel in sorted(added):
                await self._standing.run(connection, f"LISTEN {_quoted(channel)}")
            for channel in sorted(dropped):
                await self._standing.run(connection, f"UNLISTEN {_quoted(channel)}")
            self._listening = wanted
        waiting, self._settled = self._settled, []
        for settled in waiting:
            if not settled.called:
                settled.callback(None)

    # Events

    def _notified(self, channel: str, payload: str) -> None:
        for subscription in list(self._subscriptions):
            if subscription.channel == channel and not self._standing.stopped:
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


def _quoted(channel: str) -> str:
    """A channel as an SQL identifier. PostgreSQL cuts identifiers at 63 bytes, pg_notify() refuses longer ones."""
    if not channel or "\0" in channel or len(channel.encode()) > 63:
        raise ValueError(f"not a channel name: {channel!r}")
    return '"' + channel.replace('"', '""') + '"'
