"""NodeNumber: one number a process, and none for two."""

from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import globalLogPublisher

from dynxmpp.db.node_number import LOCK_CLASS, NUMBERS, NodeNumber
from dynxmpp.db.pool import DatabaseUnavailable, PoolSettings
from tests.fixtures.postgres import DatabaseTestCase, shared_server

_TAKE = "SELECT pg_advisory_lock(%s, n) FROM generate_series(%s, %s) AS n"
_FREE = "SELECT pg_advisory_unlock(%s, %s)"
_LOCKS = """
FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
WHERE locktype = 'advisory' AND datname = %s AND classid = %s
"""
_HELD = f"SELECT objid::int {_LOCKS} AND granted ORDER BY 1"
_WAITING = f"SELECT objid::int {_LOCKS} AND NOT granted"
_END = f"SELECT pg_terminate_backend(pid, 5000) {_LOCKS} AND granted AND objid = %s"


class NodeNumbers(DatabaseTestCase):
    pool_changes = {"workers": 1, "max_start_interval_s": 0.1}

    def make(self, settings: PoolSettings | None = None) -> NodeNumber:
        number = NodeNumber(settings or self.settings, clock=reactor, reactor=reactor)
        self.addCleanup(number.stop)
        return number

    def event(self, name: str) -> "Deferred[dict[str, Any]]":
        """Fires when the next event of this name is logged."""
        logged: Deferred[dict[str, Any]] = Deferred()

        def watch(event: dict[str, Any]) -> None:
            if event.get("log_format") == name and not logged.called:
                logged.callback(event)

        globalLogPublisher.addObserver(watch)  # type: ignore[arg-type]
        self.addCleanup(globalLogPublisher.removeObserver, watch)  # type: ignore[arg-type]
        return logged

    async def held(self) -> list[int]:
        return [number for (number,) in await self.db.query(_HELD, (self.settings.database, LOCK_CLASS))]

    def end_session_with(self, number: int) -> None:
        ended = shared_server().admin(_END, (self.settings.database, LOCK_CLASS, number))
        self.assertEqual([(True,)], ended)

    async def take(self, first: int, last: int) -> None:
        """Other processes have these."""
        await self.db.query(_TAKE, (LOCK_CLASS, first, last))

    async def test_each_process_has_its_own(self) -> None:
        numbers = [self.make() for _ in range(3)]
        self.assertEqual([0, 1, 2], [await number.start() for number in numbers])
        self.assertEqual([0, 1, 2], [number.number for number in numbers])
        self.assertEqual([0, 1, 2], await self.held())
        self.assertTrue(all(number.held for number in numbers))

    async def test_those_who_start_together_have_their_own(self) -> None:
        starting = [Deferred.fromCoroutine(self.make().start()) for _ in range(8)]
        self.assertEqual(list(range(8)), sorted([await deferred for deferred in starting]))
        self.assertEqual(list(range(8)), await self.held())

    async def test_databases_are_apart(self) -> None:
        other = shared_server().create_database("node_number_other")
        self.addCleanup(shared_server().drop_database, other.database)
        self.assertEqual([0, 0], [await self.make().start(), await self.make(other).start()])

    async def test_a_number_that_was_given_back_is_free(self) -> None:
        first, second = self.make(), self.make()
        await first.start()
        await second.start()
        await first.stop()
        self.assertFalse(first.held)
        # The server ends a session a moment after its client.
        while 0 in await self.held():
            pass
        self.assertEqual(0, await self.make().start())

    async def test_the_last_number_is_used_and_no_other(self) -> None:
        await self.take(0, NUMBERS - 2)
        self.assertEqual(NUMBERS - 1, await self.make().start())

    async def test_all_numbers_taken(self) -> None:
        await self.take(0, NUMBERS - 1)
        lost = self.event("node_number_lost")
        number = self.make()
        starting = Deferred.fromCoroutine(number.start())
        self.assertIn("all 256 numbers are taken", (await lost)["reason"])
        with self.assertRaises(RuntimeError):
            _ = number.number
        await self.db.query(_FREE, (LOCK_CLASS, 77))
        self.assertEqual(77, await starting)

    async def test_the_same_number_after_a_lost_connection(self) -> None:
        await self.take(0, 4)
        number = self.make()
        self.assertEqual(5, await number.start())
        await self.db.query(_FREE, (LOCK_CLASS, 2))
        lost = self.event("node_number_lost")
        self.end_session_with(5)
        await lost
        self.assertEqual((5, False), (number.number, number.held))
        while not number.held:
            await self.db.query("SELECT 1")
        self.assertEqual(5, number.number)
        self.assertIn(5, await self.held())

    async def test_another_number_when_it_was_taken_meanwhile(self) -> None:
        number = self.make()
        self.assertEqual(0, await number.start())
        changed = self.event("node_number_changed")
        taking = Deferred.fromCoroutine(self.take(0, 3))
        while not shared_server().admin(_WAITING, (self.settings.database, LOCK_CLASS)):
            pass  # who waits in line is given the lock the moment the session that has it is over
        self.end_session_with(0)
        await taking
        event = await changed
        self.assertEqual((0, 4, 4), (event["before"], event["number"], number.number))
        self.assertTrue(number.held)

    async def test_stopped_while_starting(self) -> None:
        await self.take(0, NUMBERS - 1)
        number = self.make()
        starting = Deferred.fromCoroutine(number.start())
        await number.stop()
        await self.assertFailure(starting, DatabaseUnavailable)

    async def test_cancelled_while_starting(self) -> None:
        await self.take(0, NUMBERS - 1)
        starting = Deferred.fromCoroutine(self.make().start())
        starting.cancel()
        await self.assertFailure(starting, CancelledError)

    async def test_it_starts_once(self) -> None:
        number = self.make()
        await number.start()
        with self.assertRaises(RuntimeError):
            await number.start()
