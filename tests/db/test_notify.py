"""Notifications: delivery, order, transactions, lost connections."""

from dataclasses import replace
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, DeferredQueue
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import TestCase

from dynxmpp.db.notify import Notifications
from dynxmpp.db.pool import Database, DatabaseUnavailable, PoolSettings, Transaction
from tests.fixtures.postgres import DatabaseTestCase, OwnServer, shared_server


def spawn(work: Any) -> "Deferred[Any]":
    return Deferred.fromCoroutine(work)


class NotifyTests(DatabaseTestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        await super().setUp()
        self.received: DeferredQueue[str] = DeferredQueue()
        self.notifications = self.make(self.settings)

    def make(self, settings: PoolSettings) -> Notifications:
        notifications = Notifications(settings, clock=reactor, reactor=reactor)
        self.addCleanup(notifications.stop)
        return notifications

    async def notify(self, channel: str, payload: str) -> None:
        await self.db.query("SELECT pg_notify(%s, %s)", (channel, payload))

    async def test_payloads_arrive_in_order(self) -> None:
        self.notifications.subscribe("domains", self.received.put)
        await self.notifications.start()
        for number in range(50):
            await self.notify("domains", str(number))
        self.assertEqual([await self.received.get() for _ in range(50)], [str(n) for n in range(50)])

    async def test_delivered_at_commit_and_not_after_a_roll_back(self) -> None:
        self.notifications.subscribe("domains", self.received.put)
        await self.notifications.start()

        async def rolled_back(transaction: Transaction) -> None:
            await transaction.query("SELECT pg_notify('domains', 'never')")
            raise LookupError

        async def committed(transaction: Transaction) -> None:
            await transaction.query("SELECT pg_notify('domains', 'inside')")
            await self.notify("domains", "before")

        with self.assertRaises(LookupError):
            await self.db.transaction(rolled_back)
        await self.db.transaction(committed)
        self.assertEqual([await self.received.get(), await self.received.get()], ["before", "inside"])

    async def test_channels_are_apart_whatever_their_name(self) -> None:
        strange: DeferredQueue[str] = DeferredQueue()
        self.notifications.subscribe("domains", self.received.put)
        self.notifications.subscribe('Odd "name"; DROP', strange.put)
        await self.notifications.start()
        await self.notify('Odd "name"; DROP', "s")
        await self.notify("domains", "d")
        self.assertEqual([await strange.get(), await self.received.get()], ["s", "d"])
        self.assertEqual((strange.pending, self.received.pending), ([], []))

    def test_a_name_that_cannot_be_a_channel(self) -> None:
        for name in ("", "a\0b", "x" * 64, "ä" * 32):
            with self.assertRaises(ValueError):
                self.notifications.subscribe(name, self.received.put)

    async def test_subscribing_after_the_start(self) -> None:
        await self.notifications.start()
        unsubscribe = self.notifications.subscribe("late", self.received.put)
        await self.notifications.settled()
        await self.notify("late", "1")
        self.assertEqual(await self.received.get(), "1")
        unsubscribe()
        self.notifications.subscribe("end", self.received.put)
        await self.notifications.settled()
        await self.notify("late", "2")
        await self.notify("end", "3")
        self.assertEqual(await self.received.get(), "3")

    async def test_two_subscribers_and_one_that_raises(self) -> None:
        def broken(payload: str) -> None:
            raise LookupError(payload)

        self.notifications.subscribe("domains", broken)
        self.notifications.subscribe("domains", self.received.put)
        await self.notifications.start()
        await self.notify("domains", "x")
        self.assertEqual(await self.received.get(), "x")
        self.assertEqual(len(self.flushLoggedErrors(LookupError)), 1)

    async def test_a_lost_connection_is_replaced_and_subscribers_are_told(self) -> None:
        told: DeferredQueue[str] = DeferredQueue()
        self.notifications.subscribe("domains", self.received.put, on_reconnect=lambda: told.put("missed"))
        self.notifications.subscribe("rooms", self.received.put)
        await self.notifications.start()
        self.assertEqual(told.pending, [])
        terminate = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s AND query LIKE %s"
        for _ in range(2):
            self.assertEqual(shared_server().admin(terminate, (self.settings.database, "LISTEN%")), [(True,)])
            self.assertEqual(await told.get(), "missed")
            await self.notify("domains", "again")
            await self.notify("rooms", "too")
            self.assertEqual([await self.received.get(), await self.received.get()], ["again", "too"])

    async def test_stop_in_a_callback(self) -> None:
        stopped: Deferred[None] = Deferred()

        def stop(payload: str) -> None:
            spawn(self.notifications.stop()).chainDeferred(stopped)

        self.notifications.subscribe("domains", stop)
        await self.notifications.start()
        await self.notify("domains", "x")
        await stopped
        self.assertFalse(self.notifications.connected)

    async def test_stop_while_starting(self) -> None:
        notifications = self.make(replace(self.settings, host="/nowhere"))
        notifications.subscribe("domains", self.received.put)
        started = spawn(notifications.start())
        await notifications.stop()
        await self.assertFailure(started, DatabaseUnavailable)

    async def test_cancelled_while_starting(self) -> None:
        self.notifications.subscribe("domains", self.received.put)
        started = spawn(self.notifications.start())
        started.cancel()
        await self.assertFailure(started, CancelledError)
        self.assertFalse(self.notifications.connected)


class OutageTests(TestCase):
    async def test_the_server_is_killed_and_comes_back(self) -> None:
        server = OwnServer()
        self.addCleanup(server.stop)
        server.start()
        settings = replace(server.create_database("db"), max_start_interval_s=0.1)
        received: DeferredQueue[str] = DeferredQueue()
        told: DeferredQueue[None] = DeferredQueue()
        lost: Deferred[None] = Deferred()

        def watch(event: dict[str, Any]) -> None:
            if event.get("log_format") == "notifications_lost" and not lost.called:
                lost.callback(None)

        globalLogPublisher.addObserver(watch)  # type: ignore[arg-type]
        self.addCleanup(globalLogPublisher.removeObserver, watch)  # type: ignore[arg-type]
        notifications = Notifications(settings, clock=reactor, reactor=reactor)
        self.addCleanup(notifications.stop)
        notifications.subscribe("domains", received.put, on_reconnect=lambda: told.put(None))
        await notifications.start()
        server.kill()
        await lost
        self.assertFalse(notifications.connected)
        server.restart()
        await told.get()
        self.assertTrue(notifications.connected)
        db = Database(settings, clock=reactor, reactor=reactor)
        self.addCleanup(db.stop)
        await db.start()
        await db.query("SELECT pg_notify('domains', 'x')")
        self.assertEqual(await received.get(), "x")
