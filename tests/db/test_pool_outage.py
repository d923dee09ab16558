"""The pool while the server goes away, dies, hangs, and comes back."""

import contextlib
import errno
import os
import signal
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import Clock, deferLater
from twisted.logger import ILogObserver, LogLevel, globalLogPublisher
from twisted.trial.unittest import TestCase
from zope.interface import implementer

from dynxmpp.db.connection import PgConnection
from dynxmpp.db.pool import Database, DatabaseUnavailable, PoolSettings, Transaction
from tests.fixtures.postgres import DatabaseTestCase, OwnServer, shared_server


def spawn(work: Any) -> "Deferred[Any]":
    return Deferred.fromCoroutine(work)


class LogTestCase(TestCase):
    """Keeps the log events of this project that a test causes."""

    def keep_log(self) -> list[dict[str, Any]]:
        events: list[dict[str, Any]] = []

        @implementer(ILogObserver)
        def observer(event: dict[str, Any]) -> None:
            events.append(event)

        globalLogPublisher.addObserver(observer)
        self.addCleanup(globalLogPublisher.removeObserver, observer)
        return events

    def names(self, events: list[dict[str, Any]], name: str) -> list[dict[str, Any]]:
        return [event for event in events if event.get("log_format") == name]

    def assert_no_errors(self, events: list[dict[str, Any]]) -> None:
        bad = (LogLevel.error, LogLevel.critical)
        self.assertEqual([event for event in events if event["log_level"] in bad], [])

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await deferLater(reactor, 0.005)


class OwnServerTestCase(LogTestCase):
    """A server to kill, and a pool on it."""

    def setUp(self) -> None:
        self.server = OwnServer()
        self.addCleanup(self.server.stop)
        self.server.start()
        self.settings = replace(self.server.create_database("db"), max_start_interval_s=0.2)

    async def start_database(self, settings: PoolSettings) -> Database:
        db = Database(settings, clock=reactor, reactor=reactor)
        self.addCleanup(db.stop)
        await db.start()
        return db

    async def full(self, db: Database) -> None:
        await self.until(lambda: len(db._idle) == db.settings.workers)


class OutageTests(OwnServerTestCase):
    async def test_killed_and_restarted_under_traffic(self) -> None:
        db = await self.start_database(self.settings)
        await db.execute("CREATE TABLE done (id bigint PRIMARY KEY)")
        confirmed: list[int] = []
        unknown: list[int] = []
        running = True

        async def write(first: int) -> None:
            number = first
            while running:
                number += 1
                try:
                    await db.execute("INSERT INTO done VALUES (%s)", (number,))
                    confirmed.append(number)
                except DatabaseUnavailable as error:
                    if error.maybe_done:
                        unknown.append(number)

        writers = [spawn(write(n * 1_000_000)) for n in range(12)]
        for _ in range(3):
            seen = len(confirmed)
            await self.until(lambda seen=seen: len(confirmed) > seen + 100)  # type: ignore[misc]
            self.server.kill()
            await self.until(lambda: not db.available)
            self.server.restart()
        seen = len(confirmed)
        await self.until(lambda: len(confirmed) > seen + 100)
        running = False
        await gatherResults(writers)
        present = {row[0] for row in await db.query("SELECT id FROM done")}
        self.assertEqual(set(confirmed) - present, set())
        # What was not confirmed and not reported as unknown was never sent; twice would be a key violation.
        self.assertEqual(present - set(confirmed) - set(unknown), set())
        await self.full(db)

    async def test_one_warning_for_the_loss_and_no_tracebacks(self) -> None:
        db = await self.start_database(self.settings)
        await self.full(db)
        events = self.keep_log()
        self.server.shut_down()
        await self.until(lambda: not db.available)
        self.assertEqual(len(self.names(events, "database_connection_lost")), 1)
        self.server.restart()
        await self.full(db)
        self.assertEqual(len(self.names(events, "database_connected")), 1)
        self.assert_no_errors(events)
        self.server.kill()
        await self.until(lambda: not db.available)
        self.assertEqual(len(self.names(events, "database_connection_lost")), 2)
        self.assert_no_errors(events)

    async def test_calls_while_it_is_away_end_in_bounded_time(self) -> None:
        db = await self.start_database(replace(self.settings, call_timeout_s=0.2))
        self.server.kill()
        await self.until(lambda: not db.available)
        error = (await self.assertFailure(spawn(db.query("SELECT 1")), DatabaseUnavailable)).maybe_done
        self.assertFalse(error)

    async def test_a_call_made_while_it_is_away_is_answered_when_it_is_back(self) -> None:
        db = await self.start_database(replace(self.settings, call_timeout_s=60))
        self.server.kill()
        await self.until(lambda: not db.available)
        calls = [spawn(db.query("SELECT %s::int", (n,))) for n in range(20)]
        self.server.restart()
        self.assertEqual(await gatherResults(calls), [[(n,)] for n in range(20)])

    async def test_statements_in_flight_fail(self) -> None:
        db = await self.start_database(self.settings)
        await self.full(db)
        calls = [spawn(db.query("SELECT pg_sleep(60)")) for _ in range(4)]
        await self.until(lambda: all(connection.busy for connection in db._all))
        self.server.kill()
        for call in calls:
            self.assertTrue((await self.assertFailure(call, DatabaseUnavailable)).maybe_done)

    async def test_lost_in_a_transaction(self) -> None:
        db = await self.start_database(self.settings)
        await db.execute("CREATE TABLE t (id int)")
        first: list[int] = []

        async def work(transaction: Transaction) -> None:
            await transaction.execute("INSERT INTO t VALUES (1)")
            first.extend((await transaction.query("SELECT pg_backend_pid()"))[0])
            self.server.kill()
            await transaction.execute("INSERT INTO t VALUES (2)")

        await self.assertFailure(spawn(db.transaction(work)), DatabaseUnavailable)
        self.server.restart()
        await self.full(db)
        self.assertEqual(await db.query("SELECT * FROM t"), [])
        self.assertNotIn(first[0], {connection.backend_pid for connection in db._all})

    async def test_a_server_that_hangs(self) -> None:
        db = await self.start_database(replace(self.settings, workers=1, call_timeout_s=0.3))
        [connection] = db._all
        pid = connection.backend_pid
        os.kill(pid, signal.SIGSTOP)
        self.addCleanup(lambda: self.kill_quietly(pid))
        error = await self.assertFailure(spawn(db.query("SELECT 1")), DatabaseUnavailable)
        self.assertTrue(error.maybe_done)
        # Nobody is given the connection that does not answer.
        await self.assertFailure(spawn(db.query("SELECT 2")), DatabaseUnavailable)
        os.kill(pid, signal.SIGCONT)
        await self.full(db)
        self.assertEqual(await db.query("SELECT 3"), [(3,)])

    def kill_quietly(self, pid: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)

    async def test_more_workers_than_the_server_takes(self) -> None:
        self.server.admin("ALTER ROLE dynxmpp CONNECTION LIMIT 2")
        db = await self.start_database(replace(self.settings, workers=4))
        results = await gatherResults([spawn(db.query("SELECT %s::int", (n,))) for n in range(20)])
        self.assertEqual(results, [[(n,)] for n in range(20)])
        self.assertLessEqual(len(db._all), 2)


class StartTests(OwnServerTestCase):
    async def test_start_waits_for_the_server(self) -> None:
        self.server.kill()
        events = self.keep_log()
        db = Database(self.settings, clock=reactor, reactor=reactor)
        self.addCleanup(db.stop)
        started = spawn(db.start())
        await self.until(lambda: len(self.names(events, "database_connect_failed")) >= 3)
        self.assertNoResult(started)
        self.assertFalse(db.available)
        attempts = [event["attempt"] for event in self.names(events, "database_connect_failed")]
        self.assertEqual(attempts, list(range(1, len(attempts) + 1)))
        self.server.restart()
        await started
        self.assertTrue(db.available)
        self.assert_no_errors(events)

    async def test_stop_ends_a_start(self) -> None:
        self.server.kill()
        db = Database(self.settings, clock=reactor, reactor=reactor)
        started = spawn(db.start())
        await db.stop()
        self.failureResultOf(started, DatabaseUnavailable)

    async def test_cancel_ends_a_start(self) -> None:
        self.server.kill()
        db = Database(self.settings, clock=reactor, reactor=reactor)
        started = spawn(db.start())
        started.cancel()
        await self.assertFailure(started, CancelledError)

    async def test_stop_while_connecting_to_a_server_that_does_not_answer(self) -> None:
        listener = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(listener.close)
        settings = replace(self.settings, host="127.0.0.1", port=listener.getsockname()[1])
        db = Database(settings, clock=reactor, reactor=reactor)
        started = spawn(db.start())
        connection, _ = await self.accepted(listener)
        self.addCleanup(connection.close)
        await db.stop()
        self.failureResultOf(started, DatabaseUnavailable)

    async def accepted(self, listener: socket.socket) -> tuple[socket.socket, Any]:
        listener.setblocking(False)
        while True:
            try:
                return listener.accept()
            except OSError as error:
                if error.errno != errno.EAGAIN:
                    raise
                await deferLater(reactor, 0.005)

    async def test_a_wrong_password_is_a_logged_attempt_without_the_password(self) -> None:
        rules = self.server.data / "pg_hba.conf"
        rules.write_text("local all postgres trust\nlocal all all scram-sha-256\n")
        self.server.admin("SELECT pg_reload_conf()")
        self.server.admin("ALTER ROLE dynxmpp PASSWORD 'right'")
        await self.until(lambda: "reload" in self.server.log_file.read_text())
        events = self.keep_log()
        db = Database(replace(self.settings, password="wr0ng"), clock=reactor, reactor=reactor)
        self.addCleanup(db.stop)
        started = spawn(db.start())
        await self.until(lambda: bool(self.names(events, "database_connect_failed")))
        await db.stop()
        self.failureResultOf(started, DatabaseUnavailable)
        self.assertIn("password authentication failed", self.names(events, "database_connect_failed")[0]["reason"])
        self.assertNotIn("wr0ng", repr(events) + repr(db.settings))


class BackOffTests(LogTestCase):
    """With a clock of our own, and a socket folder in which nobody listens."""

    def test_pauses_double_up_to_the_cap(self) -> None:
        clock = Clock()
        settings = PoolSettings(host="/nowhere", database="x", username="x", max_start_interval_s=1.0)
        db = Database(settings, clock=clock, reactor=reactor)
        events = self.keep_log()
        started = spawn(db.start())
        pauses = [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
        for number, pause in enumerate(pauses, start=1):
            failed = self.names(events, "database_connect_failed")
            self.assertEqual(len(failed), number)
            self.assertAlmostEqual(failed[-1]["retry_in_s"], pause)
            clock.advance(pause * 0.99)
            self.assertEqual(len(self.names(events, "database_connect_failed")), number)
            clock.advance(pause * 0.011)
        self.successResultOf(spawn(db.stop()))
        self.failureResultOf(started, DatabaseUnavailable)
        self.assertEqual(clock.getDelayedCalls(), [])


class SharedServerOutageTests(DatabaseTestCase, LogTestCase):
    async def test_all_backends_terminated_between_statements(self) -> None:
        await self.until(lambda: len(self.db._idle) == self.settings.workers)
        events = self.keep_log()
        terminate = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s"
        shared_server().admin(terminate, (self.settings.database,))
        # The reactor has not seen it yet: the pool must not send on a connection whose other end is closed.
        results = await gatherResults([spawn(self.db.query("SELECT %s::int", (n,))) for n in range(20)])
        self.assertEqual(results, [[(n,)] for n in range(20)])
        self.assertEqual(len(self.names(events, "database_connection_lost")), 1)
        self.assert_no_errors(events)

    async def test_all_backends_terminated_while_they_work(self) -> None:
        await self.until(lambda: len(self.db._idle) == self.settings.workers)
        calls = [spawn(self.db.query("SELECT pg_sleep(60)")) for _ in range(6)]
        busy = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND state = 'active'"
        await self.until(lambda: shared_server().admin(busy, (self.settings.database,)) == [(4,)])
        terminate = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = %s"
        shared_server().admin(terminate, (self.settings.database,))
        for call in calls[:4]:
            self.assertTrue((await self.assertFailure(call, DatabaseUnavailable)).maybe_done)
        # The two that waited had sent nothing, and are run on the new connections.
        await self.until(lambda: shared_server().admin(busy, (self.settings.database,)) == [(2,)])
        for call in calls[4:]:
            self.assertNoResult(call)
            call.cancel()
            await self.assertFailure(call, CancelledError)
        self.assertEqual(await self.db.query("SELECT 1"), [(1,)])

    async def test_a_statement_on_a_connection_that_is_closed_was_not_sent(self) -> None:
        connection = next(iter(self.db._all))
        self.assertIsInstance(connection, PgConnection)
        connection.close()
        with self.assertRaises(DatabaseUnavailable) as caught:
            connection.run("SELECT 1")
        self.assertFalse(caught.exception.maybe_done)
        self.db._discard(connection, "test")
        self.assertEqual(await self.db.query("SELECT 1"), [(1,)])


class TcpTests(LogTestCase):
    async def test_a_host_name_is_resolved_by_the_reactor(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        server = OwnServer(port=port)
        self.addCleanup(server.stop)
        server.start()
        settings = replace(server.create_database("db"), host="localhost", port=port, workers=1)
        db = Database(settings, clock=reactor, reactor=reactor)
        self.addCleanup(db.stop)
        await db.start()
        self.assertEqual(await db.query("SELECT host(inet_client_addr())"), [("127.0.0.1",)])

    async def test_a_name_without_an_address_is_a_failed_attempt(self) -> None:
        events = self.keep_log()
        settings = PoolSettings(host="no-such-host.invalid", database="x", username="x")
        db = Database(settings, clock=reactor, reactor=reactor)
        started = spawn(db.start())
        await self.until(lambda: bool(self.names(events, "database_connect_failed")))
        await db.stop()
        self.failureResultOf(started, DatabaseUnavailable)
        self.assert_no_errors(events)
