"""The pool against a real PostgreSQL: statements, transactions, bounds, cancellation."""

import contextlib
import datetime
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import psycopg2.errors
from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.defer import TimeoutError as DeferredTimeoutError
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from dynxmpp.db.migrations import Migration
from dynxmpp.db.pool import Database, DatabaseUnavailable, Transaction
from dynxmpp.wire.errors import Unavailable
from tests.fixtures.postgres import DatabaseTestCase, drop_database, fresh_database, shared_server

NOTES = Migration("notes", 1, "notes", "CREATE TABLE notes (id bigint PRIMARY KEY, body text, raw bytea)")


def spawn(work: Any) -> "Deferred[Any]":
    return Deferred.fromCoroutine(work)


class PoolTestCase(DatabaseTestCase):
    migrations = (NOTES,)

    async def until(self, condition: Callable[[], Awaitable[bool]]) -> None:
        """Ask again until it is so; the test's own time-out bounds it."""
        while not await condition():
            await deferLater(reactor, 0.005)

    async def until_running(self, sql_part: str) -> int:
        """Wait until another connection runs a statement that contains `sql_part`; its backend's number."""
        look = (
            "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid()"
            " AND datname = %s AND strpos(query, %s) > 0 AND strpos(query, 'pg_stat_activity') = 0"
        )
        while True:
            rows = shared_server().admin(look, (self.settings.database, sql_part))
            if rows:
                return int(rows[0][0])
            await deferLater(reactor, 0.005)

    def assert_not_running(self, sql_part: str) -> None:
        look = "SELECT 1 FROM pg_stat_activity WHERE state = 'active' AND datname = %s AND strpos(query, %s) > 0"
        self.assertEqual(shared_server().admin(look, (self.settings.database, sql_part)), [])


class StatementTests(PoolTestCase):
    async def test_rows(self) -> None:
        self.assertEqual(await self.db.query("SELECT 1, 'x'"), [(1, "x")])

    async def test_no_rows(self) -> None:
        self.assertEqual(await self.db.query("SELECT 1 WHERE false"), [])

    async def test_a_statement_without_a_result_has_no_rows(self) -> None:
        self.assertEqual(await self.db.query("INSERT INTO notes VALUES (1, 'x')"), [])

    async def test_affected_rows(self) -> None:
        self.assertEqual(await self.db.execute("INSERT INTO notes SELECT g, 'x' FROM generate_series(1, 7) g"), 7)
        self.assertEqual(await self.db.execute("DELETE FROM notes WHERE id > 5"), 2)
        self.assertEqual(await self.db.execute("CREATE TABLE more (id int)"), 0)

    async def test_returning(self) -> None:
        self.assertEqual(await self.db.query("INSERT INTO notes VALUES (3, 'x') RETURNING id"), [(3,)])

    async def test_sql_in_a_value_stays_a_value(self) -> None:
        evil = "'); DROP TABLE notes; -- \\ \" %s $$ 100%"
        await self.db.execute("INSERT INTO notes VALUES (1, %s)", (evil,))
        self.assertEqual(await self.db.query("SELECT body FROM notes WHERE body = %s", (evil,)), [(evil,)])

    async def test_a_percent_sign_without_parameters_is_itself(self) -> None:
        self.assertEqual(await self.db.query("SELECT 'a%' LIKE 'a%'"), [(True,)])

    async def test_bytea_is_bytes(self) -> None:
        raw = bytes(range(256))
        await self.db.execute("INSERT INTO notes VALUES (1, NULL, %s), (2, NULL, NULL)", (raw,))
        rows = await self.db.query("SELECT raw FROM notes ORDER BY id")
        self.assertEqual(rows, [(raw,), (None,)])
        self.assertIs(type(rows[0][0]), bytes)

    async def test_arrays_of_bytea(self) -> None:
        self.assertEqual(await self.db.query("SELECT %s::bytea[]", ([b"\0a", b"'\\"],)), [([b"\0a", b"'\\"],)])

    async def test_rows_through_unnest(self) -> None:
        count = await self.db.execute(
            "INSERT INTO notes SELECT * FROM unnest(%s::bigint[], %s::text[], %s::bytea[])",
            ([1, 2, 3], ["a", "it's", None], [b"\0", b"\xff", b""]),
        )
        self.assertEqual(count, 3)
        self.assertEqual(
            await self.db.query("SELECT * FROM notes ORDER BY id"),
            [(1, "a", b"\0"), (2, "it's", b"\xff"), (3, None, b"")],
        )

    async def test_empty_arrays(self) -> None:
        self.assertEqual(await self.db.query("SELECT * FROM unnest(%s::bigint[])", ([],)), [])

    async def test_times_are_aware_and_in_utc(self) -> None:
        moment = datetime.datetime(2026, 11, 23, 12, tzinfo=datetime.timezone(datetime.timedelta(hours=2)))
        [(found,)] = await self.db.query("SELECT %s::timestamptz", (moment,))
        self.assertEqual(found, moment)
        self.assertEqual(found.utcoffset(), datetime.timedelta(0))

    async def test_nul_in_a_text_is_a_value_error_and_costs_no_connection(self) -> None:
        for bad in ("a\0b", "\ud800"):
            with self.assertRaises(ValueError):
                await self.db.query("SELECT %s", (bad,))
        self.assertEqual(len(self.db._idle), len(self.db._all))
        self.assertEqual(await self.db.query("SELECT 1"), [(1,)])

    async def test_wrong_number_of_parameters(self) -> None:
        with self.assertRaises(IndexError):
            await self.db.query("SELECT %s, %s", (1,))
        self.assertEqual(await self.db.query("SELECT 1"), [(1,)])

    async def test_a_type_psycopg2_does_not_know(self) -> None:
        with self.assertRaises(psycopg2.ProgrammingError):
            await self.db.query("SELECT %s", (object(),))
        self.assertEqual(await self.db.query("SELECT 1"), [(1,)])

    async def test_sql_errors_have_their_class_and_leave_the_pool_intact(self) -> None:
        db = await self.start_database(replace(self.settings, workers=1))
        [connection] = db._all
        for _ in range(20):
            with self.assertRaises(psycopg2.errors.SyntaxError):
                await db.query("SELEC 1")
        await db.execute("INSERT INTO notes VALUES (1)")
        with self.assertRaises(psycopg2.errors.UniqueViolation):
            await db.execute("INSERT INTO notes VALUES (1)")
        self.assertEqual(await db.query("SELECT id FROM notes"), [(1,)])
        self.assertEqual(db._all, {connection})

    async def test_a_result_larger_than_any_buffer(self) -> None:
        [(text,)] = await self.db.query("SELECT repeat('x', 30000000)")
        self.assertEqual(len(text), 30_000_000)

    async def test_a_statement_larger_than_any_buffer(self) -> None:
        body = "ä" * 5_000_000
        self.assertEqual(await self.db.query("SELECT length(%s)", (body,)), [(5_000_000,)])

    async def test_connections_carry_our_name(self) -> None:
        self.assertEqual(
            await self.db.query("SELECT current_setting('application_name'), current_setting('TimeZone')"),
            [("dynxmpp", "UTC")],
        )

    async def test_more_callers_than_connections(self) -> None:
        results = await gatherResults([spawn(self.db.query("SELECT %s::int", (n,))) for n in range(200)])
        self.assertEqual(results, [[(n,)] for n in range(200)])
        self.assertLessEqual(len(self.db._all), self.settings.workers)

    async def test_connections_work_at_the_same_time(self) -> None:
        # Three wait in the server for a lock until the fourth has seen them wait: one after the other they never end.
        async def wait(transaction: Transaction) -> None:
            await transaction.query("SELECT pg_advisory_xact_lock_shared(7)")

        async def hold(transaction: Transaction) -> None:
            await transaction.query("SELECT pg_advisory_xact_lock(7)")
            waiting.extend(spawn(self.db.transaction(wait)) for _ in range(3))

            async def all_wait() -> bool:
                look = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7 AND NOT granted"
                return await transaction.query(look) == [(3,)]

            await self.until(all_wait)

        waiting: list[Deferred[None]] = []
        await self.db.transaction(hold)
        await gatherResults(waiting)


class TransactionTests(PoolTestCase):
    async def count(self) -> int:
        [(number,)] = await self.db.query("SELECT count(*) FROM notes")
        return int(number)

    async def test_commit(self) -> None:
        async def work(transaction: Transaction) -> str:
            self.assertEqual(await transaction.execute("INSERT INTO notes VALUES (1)"), 1)
            self.assertEqual(await self.count(), 0)
            return "done"

        self.assertEqual(await self.db.transaction(work), "done")
        self.assertEqual(await self.count(), 1)

    async def test_roll_back(self) -> None:
        async def work(transaction: Transaction) -> None:
            await transaction.execute("INSERT INTO notes VALUES (1)")
            raise LookupError("no")

        with self.assertRaises(LookupError):
            await self.db.transaction(work)
        self.assertEqual(await self.count(), 0)
        self.assertEqual(len(self.db._idle), len(self.db._all))

    async def test_roll_back_after_an_sql_error(self) -> None:
        async def work(transaction: Transaction) -> None:
            await transaction.execute("INSERT INTO notes VALUES (1)")
            await transaction.execute("INSERT INTO notes VALUES (1)")

        with self.assertRaises(psycopg2.errors.UniqueViolation):
            await self.db.transaction(work)
        self.assertEqual(await self.count(), 0)

    async def test_a_hidden_error_is_not_taken_for_a_commit(self) -> None:
        async def work(transaction: Transaction) -> None:
            await transaction.execute("INSERT INTO notes VALUES (1)")
            with contextlib.suppress(psycopg2.errors.UniqueViolation):
                await transaction.execute("INSERT INTO notes VALUES (1)")

        with self.assertRaises(psycopg2.errors.InFailedSqlTransaction):
            await self.db.transaction(work)
        self.assertEqual(await self.count(), 0)

    async def test_an_error_at_commit(self) -> None:
        await self.db.execute("ALTER TABLE notes ADD CONSTRAINT u UNIQUE (body) DEFERRABLE INITIALLY DEFERRED")

        async def work(transaction: Transaction) -> None:
            await transaction.execute("INSERT INTO notes VALUES (1, 'x'), (2, 'x')")

        with self.assertRaises(psycopg2.errors.UniqueViolation):
            await self.db.transaction(work)
        self.assertEqual(await self.count(), 0)

    async def test_a_transaction_cannot_be_used_afterwards(self) -> None:
        kept: list[Transaction] = []

        async def work(transaction: Transaction) -> None:
            kept.append(transaction)

        await self.db.transaction(work)
        with self.assertRaises(RuntimeError):
            await kept[0].execute("INSERT INTO notes VALUES (1)")

    async def test_two_statements_at_once_are_refused(self) -> None:
        async def work(transaction: Transaction) -> None:
            first = spawn(transaction.query("SELECT 1 FROM pg_sleep(0.02)"))
            with self.assertRaises(RuntimeError):
                await transaction.query("SELECT 2")
            self.assertEqual(await first, [(1,)])

        await self.db.transaction(work)

    async def test_cancelled_while_a_statement_runs(self) -> None:
        async def work(transaction: Transaction) -> None:
            await transaction.execute("INSERT INTO notes VALUES (1)")
            await transaction.query("SELECT pg_sleep(60)")

        running = spawn(self.db.transaction(work))
        await self.until_running("pg_sleep")
        running.cancel()
        self.failureResultOf(running, CancelledError)
        # Nobody gets that connection before the statement is stopped and the transaction rolled back.
        await gatherResults([spawn(self.db.query("SELECT 1")) for _ in range(20)])
        self.assertEqual(await self.count(), 0)

        async def whole() -> bool:
            return len(self.db._idle) == self.settings.workers

        await self.until(whole)
        self.assertEqual(
            shared_server().admin(
                "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)' AND state = 'active'"
            ),
            [],
        )

    async def test_cancelled_between_statements(self) -> None:
        stuck: Deferred[None] = Deferred()

        async def work(transaction: Transaction) -> None:
            await transaction.execute("INSERT INTO notes VALUES (1)")
            reactor.callLater(0, reached.callback, None)
            await stuck

        reached: Deferred[None] = Deferred()
        running = spawn(self.db.transaction(work))
        await reached
        running.cancel()
        self.failureResultOf(running, CancelledError)
        await gatherResults([spawn(self.db.query("SELECT 1")) for _ in range(20)])
        self.assertEqual(await self.count(), 0)
        # The row's lock is gone too.
        self.assertEqual(await self.db.execute("INSERT INTO notes VALUES (1)"), 1)

    async def test_a_longer_time_for_one_transaction(self) -> None:
        db = await self.start_database(replace(self.settings, query_timeout_s=0.05, call_timeout_s=0.05, workers=1))

        async def work(transaction: Transaction) -> list[tuple[Any, ...]]:
            await transaction.query("SELECT pg_sleep(0.3)")
            return await transaction.query("SELECT current_setting('statement_timeout')")

        self.assertEqual(await db.transaction(work, statement_timeout_s=0), [("0",)])
        self.assertEqual(await db.query("SELECT current_setting('statement_timeout')"), [("50ms",)])


class BoundTests(PoolTestCase):
    async def test_the_servers_time_out_is_unavailability(self) -> None:
        db = await self.start_database(replace(self.settings, query_timeout_s=0.05, workers=1))
        [connection] = db._all
        error = await self.assertFailure(spawn(db.query("SELECT pg_sleep(60)")), DatabaseUnavailable)
        self.assertIsInstance(error, Unavailable)
        self.assertFalse(error.maybe_done)
        self.assertEqual(await db.query("SELECT 1"), [(1,)])
        self.assertEqual(db._all, {connection})

    async def test_a_time_out_in_a_transaction(self) -> None:
        db = await self.start_database(replace(self.settings, query_timeout_s=0.05, workers=1))

        async def work(transaction: Transaction) -> None:
            await transaction.execute("INSERT INTO notes VALUES (1)")
            await transaction.query("SELECT pg_sleep(60)")

        await self.assertFailure(spawn(db.transaction(work)), DatabaseUnavailable)
        self.assertEqual(await db.query("SELECT count(*) FROM notes"), [(0,)])

    async def test_waiting_for_a_connection_is_bounded(self) -> None:
        db = await self.start_database(replace(self.settings, workers=1, call_timeout_s=0.3))
        release: Deferred[None] = Deferred()
        holding: Deferred[None] = Deferred()

        async def hold(_: Transaction) -> None:
            holding.callback(None)
            await release

        held = spawn(db.transaction(hold))
        await holding
        error = await self.assertFailure(spawn(db.query("SELECT 1")), DatabaseUnavailable)
        self.assertFalse(error.maybe_done)
        release.callback(None)
        await held
        self.assertEqual(await db.query("SELECT 1"), [(1,)])

    async def test_a_call_ends_at_its_deadline_and_the_statement_is_stopped(self) -> None:
        db = await self.start_database(replace(self.settings, workers=1, call_timeout_s=0.3, query_timeout_s=60))
        await self.assertFailure(spawn(db.query("SELECT pg_sleep(61)")), DatabaseUnavailable)

        async def usable() -> bool:
            try:
                return await db.query("SELECT 1") == [(1,)]
            except DatabaseUnavailable:
                return False

        await self.until(usable)
        self.assertEqual(
            shared_server().admin(
                "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%pg_sleep(61)' AND state = 'active'"
            ),
            [],
        )

    async def test_the_queue_is_bounded(self) -> None:
        db = await self.start_database(replace(self.settings, workers=1, max_waiting=2))
        calls = [spawn(db.query("SELECT 1 FROM pg_sleep(0.02)")) for _ in range(4)]
        self.failureResultOf(calls[3], DatabaseUnavailable)
        self.assertEqual(await gatherResults(calls[:3]), [[(1,)]] * 3)

    async def test_cancelling_a_running_statement(self) -> None:
        running = spawn(self.db.query("SELECT pg_sleep(62)"))
        pid = await self.until_running("pg_sleep(62)")
        running.cancel()
        self.failureResultOf(running, CancelledError)

        async def idle() -> bool:
            rows = await self.db.query("SELECT state FROM pg_stat_activity WHERE pid = %s", (pid,))
            return rows == [("idle",)]

        await self.until(idle)
        self.assertIn(pid, {connection.backend_pid for connection in self.db._all})

    async def test_cancelling_a_waiting_call(self) -> None:
        db = await self.start_database(replace(self.settings, workers=1))
        first = spawn(db.query("SELECT pg_sleep(0.05)"))
        self.assertNoResult(first)
        waiting = spawn(db.query("INSERT INTO notes VALUES (1)"))
        waiting.cancel()
        self.failureResultOf(waiting, CancelledError)
        await first
        self.assertEqual(await db.query("SELECT count(*) FROM notes"), [(0,)])

    async def test_a_time_out_of_the_callers_own(self) -> None:
        running = spawn(self.db.query("SELECT pg_sleep(60)"))
        await self.assertFailure(running.addTimeout(0.05, reactor), DeferredTimeoutError)
        self.assertEqual(await self.db.query("SELECT 1"), [(1,)])

    async def test_keepalive_uses_idle_connections(self) -> None:
        db = await self.start_database(replace(self.settings, workers=1, keepalive_interval_s=0.01))
        [connection] = db._all
        pid = connection.backend_pid

        async def kept() -> bool:
            rows = shared_server().admin("SELECT query FROM pg_stat_activity WHERE pid = %s", (pid,))
            return rows == [("SELECT 1",)]

        await self.until(kept)
        self.assertEqual(await db.query("SELECT 2"), [(2,)])


class StopTests(TestCase):
    async def setUp(self) -> None:  # type: ignore[override]
        self.settings = await fresh_database((NOTES,))
        self.addCleanup(drop_database, self.settings)
        self.db = Database(self.settings, clock=reactor, reactor=reactor)

    async def test_calls_before_start_and_after_stop_are_refused(self) -> None:
        await self.assertFailure(spawn(self.db.query("SELECT 1")), DatabaseUnavailable)
        self.assertFalse(self.db.available)
        await self.db.start()
        self.assertTrue(self.db.available)
        await self.db.stop()
        self.assertFalse(self.db.available)
        await self.assertFailure(spawn(self.db.query("SELECT 1")), DatabaseUnavailable)
        await self.db.stop()

    async def test_what_is_in_flight_ends_first(self) -> None:
        await self.db.start()
        calls = [spawn(self.db.execute("INSERT INTO notes SELECT %s FROM pg_sleep(0.02)", (n,))) for n in range(12)]
        await self.db.stop()
        self.assertEqual(await gatherResults(calls), [1] * 12)

    async def test_the_last_call_gets_its_rows_before_its_connection_is_closed(self) -> None:
        await self.db.start()
        call = spawn(self.db.query("SELECT 7 FROM pg_sleep(0.02)"))
        await self.db.stop()
        self.assertEqual(await call, [(7,)])

    async def test_it_does_not_wait_for_ever(self) -> None:
        await self.db.start()
        call = spawn(self.db.query("SELECT pg_sleep(60)"))
        await self.db.stop(grace_s=0.05)
        error = self.failureResultOf(call, DatabaseUnavailable).value
        self.assertTrue(error.maybe_done)
